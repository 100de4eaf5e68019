/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is known of a file, and its path through every mount. */
#ifndef ZASTAVA_FILE_H
#define ZASTAVA_FILE_H

#include "maps.h"

#define OVERLAYFS_MAGIC 0x794c7630

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

#endif
