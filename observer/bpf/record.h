/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one definition of what kernel and agent exchange; src/probe/record.rs and src/probe/maps.rs mirror it. */
#ifndef ZASTAVA_RECORD_H
#define ZASTAVA_RECORD_H

#define ID_LEN 64          /* hex digits of a container id */
#define MAX_FILENAME 1024
#define MAX_INTERP 256
#define MAX_NAME 256       /* one path component, its NUL included */
#define MAX_DEPTH 40       /* path components and mount crossings */
#define MAX_PATH 4096
#define MAX_ARGS 4096
#define MAX_DATA 16384
#define MAX_URGENT 512     /* records a second of one container that go by the urgent ring */

enum drift_class {
	CLASS_IMAGE = 0,    /* content of the container's image */
	CLASS_NEW = 1,
	CLASS_COPIED_UP = 2,
	CLASS_FOREIGN = 3,
	CLASS_UNNAMED = 4,
	CLASS_UNKNOWN = 5,  /* not armed, or the root is no overlay */
};

enum record_flags {
	FLAG_SCRIPT = 1 << 0,          /* the kernel ran an interpreter in the file's place */
	FLAG_LOADER = 1 << 1,          /* the dynamic loader was run by its name */
	FLAG_NO_RULES = 1 << 2,        /* nothing was known of the container */
	FLAG_KILLED = 1 << 3,          /* SIGKILL was sent before the first instruction */
	FLAG_KILL_HELD = 1 << 4,       /* an allowed path may match: the agent decides */
	FLAG_OTHER_MNTNS = 1 << 5,     /* not the container's own mount namespace: its paths prove nothing */
	FLAG_PATH_CUT = 1 << 6,
	FLAG_ARGS_CUT = 1 << 7,
	FLAG_UNLINKED = 1 << 8,
	FLAG_ARMED_NOW = 1 << 9,       /* this exec armed its container */
	FLAG_SELF_TEST = 1 << 10,      /* the agent's own child: facts and data are left out */
};

struct exec_record {
	__u32 length;          /* header and data */
	__u32 flags;
	__u64 sequence;        /* per CPU, from 0 at attach */
	__u64 monotonic_ns;
	__u64 start_boottime_ns;
	__u32 cpu;
	__u32 pid;             /* in the agent's pid namespace */
	__u32 ppid;
	__u32 uid;
	__u32 class;
	__u32 device;          /* major << 20 | minor */
	__u32 root_device;
	__u32 links;
	__u64 inode;
	__u64 upper_inode;     /* 0: no upper layer */
	__u64 size;
	__s64 ctime_ns;
	__s64 mtime_ns;
	char container[ID_LEN];
	char parent[16];
	__u16 filename_len;    /* of the four parts of data, in this order */
	__u16 interp_len;
	__u16 path_len;        /* components, leaf first, each ended by NUL */
	__u16 args_len;
	__u16 mount_depth;     /* components above which the file's mount is mounted */
	__u16 pad[3];
	char data[MAX_DATA];
};
_Static_assert(__builtin_offsetof(struct exec_record, container) == 104, "as record.rs reads it");
_Static_assert(__builtin_offsetof(struct exec_record, filename_len) == 184, "as record.rs reads it");
_Static_assert(__builtin_offsetof(struct exec_record, data) == 200, "as record.rs reads it");

/* What the kernel found out of a container. */
struct container_state {
	__u32 root_device;
	__u32 mntns;
	__u32 armed;
	__u32 overlay;
	__u32 second;          /* of CLOCK_MONOTONIC, in which it drifted */
	__u32 drifted;         /* so often in that second */
	__u32 listed;          /* what ran before the probe was attached is known */
	__u32 pad;
};

enum rule_flags {
	RULE_DRIFT = 1 << 0,       /* drift is judged */
	RULE_EVERY_EXEC = 1 << 1,  /* every exec is handed on: process rules */
	RULE_GUARDED = 1 << 2,     /* look up allowed_tops before killing */
	RULE_GUARD_ALL = 1 << 3,   /* an allowed path may be anywhere: never kill here */
};

/* What the agent decided of a container, at its creation. */
struct container_rules {
	__u32 flags;
	__u32 kill;            /* 1 << drift_class */
	__u32 slot;            /* names it in allowed_tops */
	__u32 pad;
};

struct top_key {
	__u32 slot;
	char name[28];         /* first path component, cut */
};

struct verified_key {
	__u64 upper_inode;
	__s64 ctime_ns;
	__u64 device;
};

struct config {
	__u32 pidns;           /* the agent's */
	__u32 host_mntns;
	__u32 runtime_mntns;
	__u32 agent;           /* its pid, in that pid namespace: its children's execs are its self-test */
	__u64 heartbeat_ns;    /* CLOCK_MONOTONIC */
	__u64 heartbeat_expiry_ns;
	__u64 build;           /* which program is in charge: one that is replaced, or not yet, keeps still */
};

/* Per CPU; executed = foreign + filtered + emitted + lost. */
struct counters {
	__u64 executed;
	__u64 foreign;
	__u64 filtered;
	__u64 emitted_routine;
	__u64 emitted_urgent;
	__u64 lost_routine;
	__u64 lost_urgent;
	__u64 killed;
};

#endif
