/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One program, at the moment a new image is in place and has not run an instruction: takes the facts that are gone
 * a moment later, judges drift against the container's root superblock, kills where the rules say so, hands on.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "record.h"
#include "container.h"
#include "judge.h"

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
