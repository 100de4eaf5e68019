/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps, and the memory of a program that has no stack to speak of. */
#ifndef ZASTAVA_MAPS_H
#define ZASTAVA_MAPS_H

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

#endif
