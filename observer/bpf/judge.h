/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where executed content comes from, and what is done about it. */
#ifndef ZASTAVA_JUDGE_H
#define ZASTAVA_JUDGE_H

#include "maps.h"
#include "file.h"
#include "process.h"

#define SIGKILL 9

static __always_inline u32 judge(struct exec_record *r, struct container_state *c)
{
	struct verified_key key = {};

	if (!c->armed)
		return CLASS_UNKNOWN;
	if (r->device != c->root_device)
		return r->flags & FLAG_UNLINKED ? CLASS_UNNAMED : CLASS_FOREIGN;
	if (!c->overlay)
		return CLASS_UNKNOWN;
	/* A deleted file of a lower layer is still the image's content. */
	if (!r->upper_inode)
		return CLASS_IMAGE;
	if (r->flags & FLAG_UNLINKED)
		return CLASS_UNNAMED;
	if (r->upper_inode != r->inode)
		return CLASS_COPIED_UP;
	/* The number is a hint that flips on hardlinked files; what was hashed before is remembered. */
	key.upper_inode = r->upper_inode;
	key.ctime_ns = r->ctime_ns;
	key.device = r->device;
	return bpf_map_lookup_elem(&verified, &key) ? CLASS_COPIED_UP : CLASS_NEW;
}

/* The runtime starts a container's processes from its own mount namespace; what forks inside never arms anything. */
static __always_inline void arm(struct container_state *c, struct task_struct *task, struct config *cfg, struct exec_record *r)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	struct super_block *root = BPF_CORE_READ(task, fs, root.mnt, mnt_sb);

	if (!is_the_nodes(parent, cfg))
		return;
	/* A hook that runs before the pivot still has the host's root. */
	if (root == BPF_CORE_READ(parent, fs, root.mnt, mnt_sb))
		return;
	c->root_device = BPF_CORE_READ(root, s_dev);
	c->overlay = BPF_CORE_READ(root, s_magic) == OVERLAYFS_MAGIC;
	c->mntns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	/* One that the runtime puts into a container that is there already tells nothing of what ran before. */
	c->listed = is_alone(task);
	c->armed = 1;
	r->flags |= FLAG_ARMED_NOW;
}

static __always_inline void kill(struct exec_record *r, struct container_rules *rule, struct config *cfg, u32 top, struct counters *n)
{
	struct top_key key = {};

	if (!(rule->kill & (1 << r->class)))
		return;
	if (r->monotonic_ns - cfg->heartbeat_ns > cfg->heartbeat_expiry_ns)
		return;
	/* Paths in a mount namespace of its own making allow nothing. */
	if (!(r->flags & FLAG_OTHER_MNTNS) && r->class != CLASS_UNNAMED) {
		bool held = rule->flags & RULE_GUARD_ALL || (rule->flags & RULE_GUARDED && r->flags & FLAG_PATH_CUT);
		if (!held && rule->flags & RULE_GUARDED) {
			key.slot = rule->slot;
			bpf_probe_read_kernel_str(key.name, sizeof(key.name), &r->data[BOUNDED(top, 0x1fff)]);
			held = bpf_map_lookup_elem(&allowed_tops, &key) != 0;
		}
		if (held) {
			r->flags |= FLAG_KILL_HELD;
			return;
		}
	}
	if (bpf_send_signal(SIGKILL) == 0) {
		r->flags |= FLAG_KILLED;
		n->killed++;
	}
}

#endif
