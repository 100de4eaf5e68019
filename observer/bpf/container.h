/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whose a task is: the outermost container id in the names of its cgroups. */
#ifndef ZASTAVA_CONTAINER_H
#define ZASTAVA_CONTAINER_H

#include "maps.h"

/* More than a workload that may make cgroups of its own would nest to get out of sight. */
#define CGROUP_DEPTH 96

static __always_inline bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* `crio-conmon-<id>`, `libpod-conmon-<id>`: the monitor of a container is the node's, not the container's. */
static __always_inline bool is_monitors(struct scratch *s, u32 start)
{
	const char monitor[] = "conmon-";

	if (start < sizeof(monitor) - 1)
		return false;
	for (u32 i = 0; i < sizeof(monitor) - 1; i++)
		if (s->name[BOUNDED(start - (sizeof(monitor) - 1) + i, 0xff)] != monitor[i])
			return false;
	return true;
}

/* Looks for `<64 hex>`, `<prefix>-<64 hex>` or `<prefix>:<64 hex>`, with or without `.scope`, in scratch->name. */
__noinline int parse_name(u32 length)
{
	struct scratch *s = scratch();
	u32 start;

	if (!s)
		return 0;
	if (length >= 70 && length <= 255 && s->name[BOUNDED(length - 6, 0xff)] == '.' && s->name[BOUNDED(length - 1, 0xff)] == 'e')
		length -= 6;
	if (length < ID_LEN || length > 190)
		return 0;
	start = length - ID_LEN;
	if (start > 0) {
		char before = s->name[BOUNDED(start - 1, 0xff)];
		if ((before != '-' && before != ':') || is_monitors(s, start))
			return 0;
	}
	for (u32 i = 0; i < ID_LEN; i++) {
		char c = s->name[BOUNDED(start + i, 0xff)];
		if (!is_hex(c))
			return 0;
		s->found.id[i] = c;
	}
	s->found.found = 1;
	return 1;
}

static __always_inline struct kernfs_node *parent_node(struct kernfs_node *node)
{
	if (bpf_core_field_exists(((struct kernfs_node___before_6_15 *)0)->parent))
		return BPF_CORE_READ((struct kernfs_node___before_6_15 *)node, parent);
	return BPF_CORE_READ(node, __parent);
}

/* The outermost container id on the way from this cgroup to its root, into scratch->found: what a container nests is its. */
__noinline int container_of_cgroup(u64 address, u64 hierarchy)
{
	struct cgroup *cgroup = (void *)address;
	struct cgroup_key key = { .hierarchy = hierarchy };
	struct cgroup_value *known;
	struct scratch *s = scratch();
	struct kernfs_node *node;

	if (!s || !cgroup)
		return 0;
	s->found.found = 0;
	node = BPF_CORE_READ(cgroup, kn);
	if (!node || !parent_node(node))
		return 0;
	key.id = BPF_CORE_READ(node, id);
	known = bpf_map_lookup_elem(&cgroups, &key);
	if (known) {
		s->found = *known;
		return s->found.found;
	}
	for (int i = 0; i < CGROUP_DEPTH && node; i++) {
		long length = bpf_probe_read_kernel_str(s->name, sizeof(s->name), BPF_CORE_READ(node, name));
		if (length > ID_LEN)
			parse_name(length - 1);
		node = parent_node(node);
	}
	bpf_map_update_elem(&cgroups, &key, &s->found, BPF_ANY);
	return s->found.found;
}

static __always_inline u64 cgroup_of(struct css_set *set, u64 subsystem)
{
	struct cgroup_subsys_state *css = 0;

	bpf_probe_read_kernel(&css, sizeof(css), (void *)set + bpf_core_field_offset(set->subsys) + subsystem * sizeof(css));
	return css ? (u64)BPF_CORE_READ(css, cgroup) : 0;
}

__noinline int container_of_task(u64 address)
{
	struct task_struct *task = (void *)address;
	struct css_set *set = BPF_CORE_READ(task, cgroups);

	if (container_of_cgroup((u64)BPF_CORE_READ(set, dfl_cgrp), 2))
		return 1;
	/* cgroup v1, or v2 beside it: a controller that every runtime puts containers under. */
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id) &&
	    container_of_cgroup(cgroup_of(set, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)), 1))
		return 1;
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id))
		return container_of_cgroup(cgroup_of(set, bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id)), 3);
	return 0;
}

#endif
