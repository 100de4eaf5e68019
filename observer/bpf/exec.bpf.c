/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One program, at the moment a new image is in place and has not run an instruction: takes the facts that are gone
 * a moment later, judges drift against the container's root superblock, kills where the rules say so, hands on.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "record.h"

#define OVERLAYFS_MAGIC 0x794c7630
#define SIGKILL 9
#define CGROUP_DEPTH 12
#define PIDNS_DEPTH 8

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4 << 20); } ring_routine SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); } ring_urgent SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, struct config); } config SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, struct counters); } counters SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 8192); __type(key, char[ID_LEN]); __type(value, struct container_state); } containers SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8192); __type(key, char[ID_LEN]); __type(value, struct container_rules); } rules SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8192); __type(key, struct top_key); __type(value, u32); } allowed_tops SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 8192); __type(key, struct verified_key); __type(value, u32); } verified SEC(".maps");

/* What the agent has dealt with (src/probe/ring.rs): only it reads and writes these two. */
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, u64[16]); } tally SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, (5 << 20) / 128); __type(key, u32); __type(value, u64); } settled SEC(".maps");

/* Set at load: which program this is. */
const volatile u64 build = 0;

struct cgroup_key { u64 id; u64 hierarchy; };
struct cgroup_value { u32 found; u32 pad; char id[ID_LEN]; };
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 8192); __type(key, struct cgroup_key); __type(value, struct cgroup_value); } cgroups SEC(".maps");

struct scratch {
	struct cgroup_value found;
	char name[256];
	u32 top;               /* where the path's first component lies in the record's data */
	struct exec_record record;
};
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, struct scratch); } scratches SEC(".maps");

/* The compiler knows bounds that it does not show to older verifiers: masks that it can't drop do. */
#define BOUNDED(value, mask) ({ u64 bounded = (value); asm volatile("%0 &= %1" : "+r"(bounded) : "i"(mask)); bounded; })

/*
 * Functions that loop are global and take kernel addresses as numbers, so that the verifier walks each of them once
 * instead of once for every path that leads there.
 */
static __always_inline struct scratch *scratch(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&scratches, &zero);
}

static __always_inline bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
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
		if (before != '-' && before != ':')
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

/* The pid as the agent's pid namespace numbers it, 0 when it does not see the task. */
__noinline int pid_in(u64 address, u32 pidns)
{
	struct task_struct *task = (void *)address;
	struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	u32 level = BPF_CORE_READ(pid, level);
	void *numbers = (void *)pid + bpf_core_field_offset(pid->numbers);

	for (u32 i = 0; i < PIDNS_DEPTH; i++) {
		struct upid *upid = numbers + i * bpf_core_type_size(struct upid);
		if (i > level)
			break;
		if (BPF_CORE_READ(upid, ns, ns.inum) == pidns)
			return BPF_CORE_READ(upid, nr);
	}
	return 0;
}

static __always_inline s64 nanoseconds(s64 sec, s64 nsec)
{
	return sec * 1000000000ll + nsec;
}

static __always_inline void read_times(struct inode *inode, struct exec_record *r)
{
	if (bpf_core_field_exists(inode->i_ctime_sec)) {
		r->ctime_ns = nanoseconds(BPF_CORE_READ(inode, i_ctime_sec), BPF_CORE_READ(inode, i_ctime_nsec));
		r->mtime_ns = nanoseconds(BPF_CORE_READ(inode, i_mtime_sec), BPF_CORE_READ(inode, i_mtime_nsec));
	} else if (bpf_core_field_exists(((struct inode___6_6 *)0)->__i_ctime)) {
		struct inode___6_6 *old = (void *)inode;
		r->ctime_ns = nanoseconds(BPF_CORE_READ(old, __i_ctime.tv_sec), BPF_CORE_READ(old, __i_ctime.tv_nsec));
		/* 6.6 renamed ctime alone, 6.7 the others. */
		if (bpf_core_field_exists(((struct inode___6_6 *)0)->__i_mtime))
			r->mtime_ns = nanoseconds(BPF_CORE_READ(old, __i_mtime.tv_sec), BPF_CORE_READ(old, __i_mtime.tv_nsec));
	} else {
		struct inode___before_6_6 *old = (void *)inode;
		r->ctime_ns = nanoseconds(BPF_CORE_READ(old, i_ctime.tv_sec), BPF_CORE_READ(old, i_ctime.tv_nsec));
		r->mtime_ns = nanoseconds(BPF_CORE_READ(old, i_mtime.tv_sec), BPF_CORE_READ(old, i_mtime.tv_nsec));
	}
}

static __always_inline void read_file(struct file *file, struct exec_record *r)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode), *upper_inode;
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry), *upper = 0;

	r->device = BPF_CORE_READ(sb, s_dev);
	r->inode = BPF_CORE_READ(inode, i_ino);
	r->links = BPF_CORE_READ(inode, i_nlink);
	r->size = BPF_CORE_READ(inode, i_size);
	read_times(inode, r);
	if (!r->links || (!BPF_CORE_READ(dentry, d_hash.pprev) && BPF_CORE_READ(dentry, d_parent) != dentry))
		r->flags |= FLAG_UNLINKED;
	if (BPF_CORE_READ(sb, s_magic) == OVERLAYFS_MAGIC) {
		/* ovl_inode.__upperdentry lies right behind the embedded inode; overlay is often a module without BTF here. */
		bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + bpf_core_type_size(struct inode));
		upper_inode = upper ? BPF_CORE_READ(upper, d_inode) : 0;
		if (upper_inode)
			r->upper_inode = BPF_CORE_READ(upper_inode, i_ino);
	}
}

/*
 * Writes the components at this offset of the record's data, leaf first, through every mount up to the root of the
 * mount namespace; returns the offset behind them.
 */
__noinline int read_path(u64 address, u32 start)
{
	struct file *file = (void *)address;
	struct vfsmount *vfs = BPF_CORE_READ(file, f_path.mnt);
	struct mount *mount = (void *)vfs - bpf_core_field_offset(struct mount, mnt), *parent;
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry), *up;
	u32 offset = start, depth = 0, crossed = 0, whole = 0;
	struct scratch *s = scratch();

	if (!s)
		return start;
	s->top = start;
	for (int i = 0; i < MAX_DEPTH; i++) {
		if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
			parent = BPF_CORE_READ(mount, mnt_parent);
			if (!crossed)
				s->record.mount_depth = depth;
			crossed = 1;
			if (parent == mount) {
				whole = 1;
				break;
			}
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = parent;
			continue;
		}
		up = BPF_CORE_READ(dentry, d_parent);
		if (up == dentry) {
			whole = 1;
			break;
		}
		if (offset - start > MAX_PATH - MAX_NAME)
			break;
		s->top = offset;
		long n = bpf_probe_read_kernel_str(&s->record.data[BOUNDED(offset, 0x1fff)], MAX_NAME, BPF_CORE_READ(dentry, d_name.name));
		if (n <= 0)
			break;
		offset += n;
		depth++;
		dentry = up;
	}
	if (!whole)
		s->record.flags |= FLAG_PATH_CUT;
	if (!crossed)
		s->record.mount_depth = depth;
	return offset;
}

/* A memory file lies in no folder, and has a name all the same. */
__noinline int read_leaf(u64 address, u32 start)
{
	struct file *file = (void *)address;
	struct scratch *s = scratch();
	long n;

	if (!s)
		return start;
	n = bpf_probe_read_kernel_str(&s->record.data[BOUNDED(start, 0x1fff)], MAX_NAME, BPF_CORE_READ(file, f_path.dentry, d_name.name));
	s->record.mount_depth = 1;
	return n > 0 ? start + n : start;
}

static __always_inline bool is_loader(const char *name)
{
	if (name[0] != 'l' || name[1] != 'd')
		return false;
	return name[2] == '-' || (name[2] == '.' && name[3] == 's') || (name[2] == '6' && name[3] == '4');
}

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

/* A process of the node, not of a container. */
static __always_inline bool is_the_nodes(struct task_struct *task, struct config *cfg)
{
	struct nsproxy *namespaces = BPF_CORE_READ(task, nsproxy);
	struct pid *pid;
	struct upid *own;
	u32 mntns;

	if (namespaces) {
		mntns = BPF_CORE_READ(namespaces, mnt_ns, ns.inum);
		return mntns == cfg->host_mntns || mntns == cfg->runtime_mntns;
	}
	/* It ends right now, as runc does once its exec is under way: its mounts are gone, its pid is not. */
	pid = BPF_CORE_READ(task, thread_pid);
	own = (void *)pid + bpf_core_field_offset(pid->numbers) + (u64)BPF_CORE_READ(pid, level) * bpf_core_type_size(struct upid);
	return BPF_CORE_READ(own, ns, ns.inum) == cfg->pidns;
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

/* Whether the agent is in a container, and whatever the rules for it: the whole way up to the agent is tried. */
static __always_inline void self_test(struct exec_record *r, struct counters *n)
{
	r->flags = FLAG_SELF_TEST;
	r->class = CLASS_UNKNOWN;
	__builtin_memset(r->container, '0', ID_LEN);
	r->filename_len = r->interp_len = r->path_len = r->args_len = 0;
	r->length = __builtin_offsetof(struct exec_record, data);
	if (bpf_ringbuf_output(&ring_routine, r, __builtin_offsetof(struct exec_record, data), BPF_RB_FORCE_WAKEUP))
		n->lost_routine++;
	else
		n->emitted_routine++;
}

/* What may be of high severity goes by the urgent ring, but for what one container has too much of. */
static __always_inline bool is_urgent(struct exec_record *r, struct container_state *c)
{
	u32 second = r->monotonic_ns >> 30;

	if (r->class != CLASS_NEW && r->class != CLASS_COPIED_UP && r->class != CLASS_UNNAMED)
		return false;
	if (c->second != second) {
		c->second = second;
		c->drifted = 0;
	}
	/* Two CPUs may count one: it is a bound, not a count. */
	return c->drifted++ < MAX_URGENT;
}

SEC("tp_btf/sched_process_exec")
int zastava_exec(u64 *ctx)
{
	/* As a number: the tracepoint's own argument could not be passed to global functions. */
	struct task_struct *task = (void *)bpf_get_current_task();
	struct linux_binprm *bprm = (void *)ctx[2];
	u32 zero = 0, offset, args_offset, mntns;
	struct counters *n = bpf_map_lookup_elem(&counters, &zero);
	struct config *cfg = bpf_map_lookup_elem(&config, &zero);
	struct scratch *s = scratch();
	struct container_rules *rule;
	struct container_state *c, fresh = {};
	struct exec_record *r;
	const char *filename, *interp;
	struct mm_struct *mm;
	struct file *file;
	u64 arg_start, arg_length, length;
	bool drift, urgent;
	long got;

	/* Two programs are attached while one replaces the other: an exec is the one's or the other's. */
	if (!n || !cfg || !s || cfg->build != build)
		return 0;
	r = &s->record;
	r->sequence = n->executed++;
	r->cpu = bpf_get_smp_processor_id();
	r->monotonic_ns = bpf_ktime_get_ns();
	r->flags = 0;

	r->pid = pid_in((u64)task, cfg->pidns);
	r->ppid = r->pid ? pid_in((u64)BPF_CORE_READ(task, real_parent), cfg->pidns) : 0;
	if (r->ppid && r->ppid == cfg->agent) {
		self_test(r, n);
		return 0;
	}
	if (!r->pid || !container_of_task((u64)task)) {
		n->foreign++;
		return 0;
	}
	__builtin_memcpy(r->container, s->found.id, ID_LEN);
	mntns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	if (mntns == cfg->host_mntns || mntns == cfg->runtime_mntns) {
		/* The runtime's own: runc's init runs sealed from a memfd in the container's cgroup. */
		n->filtered++;
		return 0;
	}

	c = bpf_map_lookup_elem(&containers, r->container);
	if (!c) {
		bpf_map_update_elem(&containers, r->container, &fresh, BPF_NOEXIST);
		c = bpf_map_lookup_elem(&containers, r->container);
		if (!c) {
			n->lost_urgent++;
			return 0;
		}
	}
	if (!c->armed)
		arm(c, task, cfg, r);
	if (c->armed && c->mntns != mntns)
		r->flags |= FLAG_OTHER_MNTNS;

	r->upper_inode = 0;
	r->mtime_ns = 0;
	r->root_device = c->root_device;
	file = BPF_CORE_READ(bprm, file);
	read_file(file, r);
	r->class = judge(r, c);
	filename = BPF_CORE_READ(bprm, filename);
	interp = BPF_CORE_READ(bprm, interp);
	if (interp != filename)
		r->flags |= FLAG_SCRIPT;

	rule = bpf_map_lookup_elem(&rules, r->container);
	drift = r->class == CLASS_NEW || r->class == CLASS_COPIED_UP || r->class == CLASS_FOREIGN || r->class == CLASS_UNNAMED;
	if (rule && !(rule->flags & (RULE_DRIFT | RULE_EVERY_EXEC))) {
		n->filtered++;
		return 0;
	}

	/* The leaf's name decides whether a plain exec of the image is the dynamic loader's. */
	got = bpf_probe_read_kernel_str(s->name, MAX_NAME, BPF_CORE_READ(file, f_path.dentry, d_name.name));
	if (got > 3 && is_loader(s->name))
		r->flags |= FLAG_LOADER;
	if (rule && !drift && !(rule->flags & RULE_EVERY_EXEC) && !(r->flags & (FLAG_SCRIPT | FLAG_LOADER))) {
		n->filtered++;
		return 0;
	}
	if (!rule)
		r->flags |= FLAG_NO_RULES;

	got = bpf_probe_read_kernel_str(r->data, MAX_FILENAME, filename);
	r->filename_len = offset = got > 0 ? got : 0;
	got = 0;
	if (r->flags & FLAG_SCRIPT)
		got = bpf_probe_read_kernel_str(&r->data[BOUNDED(offset, 0x7ff)], MAX_INTERP, interp);
	r->interp_len = got > 0 ? got : 0;
	offset += r->interp_len;
	args_offset = read_path((u64)file, offset);
	if (args_offset == offset)
		args_offset = read_leaf((u64)file, offset);
	r->path_len = args_offset - offset;

	if (rule && drift && rule->flags & RULE_DRIFT)
		kill(r, rule, cfg, s->top, n);

	r->start_boottime_ns = BPF_CORE_READ(task, start_boottime);
	r->uid = BPF_CORE_READ(task, cred, uid.val);
	bpf_probe_read_kernel_str(r->parent, sizeof(r->parent), &BPF_CORE_READ(task, real_parent)->comm);

	mm = BPF_CORE_READ(task, mm);
	arg_start = BPF_CORE_READ(mm, arg_start);
	arg_length = BPF_CORE_READ(mm, arg_end) - arg_start;
	if (arg_length > MAX_ARGS - 1) {
		arg_length = MAX_ARGS - 1;
		r->flags |= FLAG_ARGS_CUT;
	}
	if (bpf_probe_read_user(&r->data[BOUNDED(args_offset, 0x1fff)], BOUNDED(arg_length, MAX_ARGS - 1), (void *)arg_start))
		arg_length = 0;
	r->args_len = arg_length;

	length = (__builtin_offsetof(struct exec_record, data) + args_offset + arg_length + 7) & ~7ull;
	r->length = length;
	urgent = is_urgent(r, c);
	if (urgent)
		got = bpf_ringbuf_output(&ring_urgent, r, BOUNDED(length, 0x3fff), BPF_RB_FORCE_WAKEUP);
	else
		got = bpf_ringbuf_output(&ring_routine, r, BOUNDED(length, 0x3fff), drift ? BPF_RB_FORCE_WAKEUP : 0);
	if (urgent && got)
		n->lost_urgent++;
	else if (urgent)
		n->emitted_urgent++;
	else if (got)
		n->lost_routine++;
	else
		n->emitted_routine++;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
