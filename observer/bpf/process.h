/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How the agent sees a process, and whether it is one of the node. */
#ifndef ZASTAVA_PROCESS_H
#define ZASTAVA_PROCESS_H

#define PIDNS_DEPTH 8
#define PIDNS_ADDING (1u << 31)

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

/* Its number in its own pid namespace. */
static __always_inline struct upid *own_number(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);

	return (void *)pid + bpf_core_field_offset(pid->numbers) + (u64)BPF_CORE_READ(pid, level) * bpf_core_type_size(struct upid);
}

/* Nobody else is in its pid namespace: a first process, and one that left nothing behind before this exec. */
static __always_inline bool is_alone(struct task_struct *task)
{
	if (!bpf_core_field_exists(((struct pid_namespace *)0)->pid_allocated))
		return false;
	return (BPF_CORE_READ(own_number(task), ns, pid_allocated) & ~PIDNS_ADDING) == 1;
}

/* A process of the node, not of a container. */
static __always_inline bool is_the_nodes(struct task_struct *task, struct config *cfg)
{
	struct nsproxy *namespaces = BPF_CORE_READ(task, nsproxy);
	u32 mntns;

	if (namespaces) {
		mntns = BPF_CORE_READ(namespaces, mnt_ns, ns.inum);
		return mntns == cfg->host_mntns || mntns == cfg->runtime_mntns;
	}
	/* It ends right now, as runc does once its exec is under way: its mounts are gone, its pid is not. */
	return BPF_CORE_READ(own_number(task), ns, ns.inum) == cfg->pidns;
}

#endif
