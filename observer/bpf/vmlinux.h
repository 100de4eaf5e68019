/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fields of kernel types that the probe reads, and nothing else: every access is relocated against the running
 * kernel's BTF at load (CO-RE), so only names matter here. A dumped vmlinux.h would make builds differ.
 * A suffix after three underscores names a layout of other kernel versions.
 */
#ifndef ZASTAVA_VMLINUX_H
#define ZASTAVA_VMLINUX_H

typedef unsigned char __u8;
typedef signed short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef _Bool bool;

enum { false = 0, true = 1 };

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_RB_FORCE_WAKEUP = 2 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum cgroup_subsys_id { memory_cgrp_id = 4, pids_cgrp_id = 11 };

typedef struct { unsigned int val; } kuid_t;

struct kernfs_node { const char *name; u64 id; struct kernfs_node *__parent; };
struct kernfs_node___before_6_15 { struct kernfs_node *parent; };
struct cgroup { struct kernfs_node *kn; };
struct cgroup_subsys_state { struct cgroup *cgroup; };
struct css_set { struct cgroup_subsys_state *subsys[16]; struct cgroup *dfl_cgrp; };

struct ns_common { unsigned int inum; };
struct mnt_namespace { struct ns_common ns; };
struct pid_namespace { unsigned int pid_allocated; struct ns_common ns; };
struct nsproxy { struct mnt_namespace *mnt_ns; };
struct upid { int nr; struct pid_namespace *ns; };
struct pid { unsigned int level; struct upid numbers[1]; };

struct super_block { u32 s_dev; unsigned long s_magic; };
struct qstr { const unsigned char *name; };
struct inode;
struct hlist_bl_node { struct hlist_bl_node *next, **pprev; };
struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};
struct vfsmount { struct dentry *mnt_root; struct super_block *mnt_sb; };
struct mount { struct mount *mnt_parent; struct dentry *mnt_mountpoint; struct vfsmount mnt; };
struct path { struct vfsmount *mnt; struct dentry *dentry; };

struct timespec64 { s64 tv_sec; long tv_nsec; };
struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	s64 i_size;
	s64 i_ctime_sec;
	u32 i_ctime_nsec;
	s64 i_mtime_sec;
	u32 i_mtime_nsec;
};
struct inode___6_6 { struct timespec64 __i_ctime; struct timespec64 __i_mtime; };
struct inode___before_6_6 { struct timespec64 i_ctime; struct timespec64 i_mtime; };
struct file { struct path f_path; struct inode *f_inode; };

struct fs_struct { struct path root; };
struct cred { kuid_t uid; };
struct mm_struct { unsigned long arg_start, arg_end; };
struct task_struct {
	struct mm_struct *mm;
	struct pid *thread_pid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	u64 start_boottime;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct nsproxy *nsproxy;
	struct css_set *cgroups;
};
struct linux_binprm { struct file *file; const char *filename; const char *interp; };

#pragma clang attribute pop

#endif
