/*
 * Ways to execute a program that a shell has not: the image of the runtime scenarios holds this, linked statically.
 *
 *   odd memfd NAME PROGRAM ARGUMENT ...      a copy of PROGRAM in a memory file NAME
 *   odd unlinked PROGRAM ARGUMENT ...        PROGRAM, after its name was removed
 *   odd overlay FOLDER PROGRAM ARGUMENT ...  a copy of PROGRAM from an overlay in a user namespace of its own
 *   odd fd PROGRAM ARGUMENT ...              PROGRAM by a descriptor
 *   odd path PROGRAM ARGUMENT ...            PROGRAM by a descriptor that can't be read from
 *   odd self ARGUMENT ...                    itself, by its link in /proc
 *   odd uring FROM TO                        copies with io_uring
 *   odd mapping FROM TO                      writes FROM into TO, which is there, through a mapping
 *   odd map FILE                             nothing but a mapping of FILE for execution
 *   odd leave                                removes its own name, and stays
 *   odd say WORD                             says it
 *   odd gone WORD                            removes its own name and says it
 *   odd rename NAME WORD                     gives itself another name and says it
 *   odd replace FILE WORD                    puts FILE in its own place and says it
 *   odd stay                                 stays for a minute
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

static void must(int done, const char *what)
{
	if (done)
		return;
	perror(what);
	exit(125);
}

static void copy(const char *from, int to)
{
	int file = open(from, O_RDONLY | O_CLOEXEC);
	ssize_t sent = 1;

	must(file >= 0, from);
	while (sent > 0)
		sent = sendfile(to, file, NULL, 1 << 20);
	must(sent == 0, "copy");
	close(file);
}

static void execute(int file, char **arguments)
{
	syscall(SYS_execveat, file, "", arguments, environ, AT_EMPTY_PATH);
	must(0, "execveat");
}

static void write_text(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);

	must(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(file);
}

static void from_memory(const char *name, char **arguments)
{
	int file = memfd_create(name, MFD_CLOEXEC);

	must(file >= 0, "memfd_create");
	copy(arguments[0], file);
	execute(file, arguments);
}

static void from_nowhere(char **arguments)
{
	int file = open(arguments[0], O_RDONLY | O_CLOEXEC);

	must(file >= 0, arguments[0]);
	must(unlink(arguments[0]) == 0, "unlink");
	execute(file, arguments);
}

static void from_descriptor(int flags, char **arguments)
{
	int file = open(arguments[0], flags | O_CLOEXEC);

	must(file >= 0, arguments[0]);
	execute(file, arguments);
}

/* One write after the other, each by way of the ring. */
static void write_by_ring(const char *from, const char *to)
{
	struct io_uring_params params = { 0 };
	int ring = syscall(SYS_io_uring_setup, 1, &params), source = open(from, O_RDONLY), file;
	size_t entries = sizeof(struct io_uring_sqe);
	struct io_uring_sqe *entry;
	struct io_uring_cqe *done;
	char *submit, *complete, buffer[1 << 16];
	__u64 offset = 0;
	ssize_t got;

	must(ring >= 0, "io_uring_setup");
	file = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	must(source >= 0 && file >= 0, "open");
	submit = mmap(NULL, params.sq_off.array + sizeof(__u32), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	complete = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(*done), PROT_READ | PROT_WRITE, MAP_SHARED,
			ring, IORING_OFF_CQ_RING);
	entry = mmap(NULL, entries, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	must(submit != MAP_FAILED && complete != MAP_FAILED && entry != MAP_FAILED, "mmap");
	while ((got = read(source, buffer, sizeof(buffer))) > 0) {
		__u32 *head = (__u32 *)(complete + params.cq_off.head), mask = *(__u32 *)(complete + params.cq_off.ring_mask);

		memset(entry, 0, sizeof(*entry));
		entry->opcode = IORING_OP_WRITE;
		entry->fd = file;
		entry->addr = (__u64)buffer;
		entry->len = got;
		entry->off = offset;
		*(__u32 *)(submit + params.sq_off.array) = 0;
		__atomic_add_fetch((__u32 *)(submit + params.sq_off.tail), 1, __ATOMIC_RELEASE);
		must(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1, "io_uring_enter");
		done = (struct io_uring_cqe *)(complete + params.cq_off.cqes) + (*head & mask);
		must(done->res == got, "a write by io_uring");
		__atomic_add_fetch(head, 1, __ATOMIC_RELEASE);
		offset += got;
	}
	must(got == 0 && close(file) == 0, "copy");
}

static void write_by_mapping(const char *from, const char *to)
{
	int source = open(from, O_RDONLY), file = open(to, O_RDWR);
	struct stat meta;
	char *memory;

	must(source >= 0 && file >= 0 && fstat(file, &meta) == 0, to);
	memory = mmap(NULL, meta.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	must(memory != MAP_FAILED, "mmap");
	must(read(source, memory, meta.st_size) == meta.st_size, from);
	must(msync(memory, meta.st_size, MS_SYNC) == 0 && munmap(memory, meta.st_size) == 0 && close(file) == 0, "msync");
}

static void from_overlay(const char *folder, char **arguments)
{
	static const char *const parts[] = { "lower", "upper", "work", "merged" };
	char uid[32], gid[32];
	int file;

	snprintf(uid, sizeof(uid), "0 %u 1", getuid());
	snprintf(gid, sizeof(gid), "0 %u 1", getgid());
	must(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0, "unshare");
	write_text("/proc/self/setgroups", "deny");
	write_text("/proc/self/uid_map", uid);
	write_text("/proc/self/gid_map", gid);
	must(mount("tmpfs", folder, "tmpfs", 0, NULL) == 0, "mount tmpfs");
	must(chdir(folder) == 0, folder);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		must(mkdir(parts[i], 0755) == 0, parts[i]);
	file = open("lower/busybox", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	must(file >= 0, "lower/busybox");
	copy(arguments[0], file);
	close(file);
	must(mount("overlay", "merged", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work") == 0, "mount overlay");
	must(chroot("merged") == 0 && chdir("/") == 0, "chroot");
	execv("/busybox", arguments);
	must(0, "execv");
}

static void map(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);

	must(file >= 0, path);
	must(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) != MAP_FAILED, "mmap");
	puts("mapped");
}

int main(int count, char **arguments)
{
	if (count > 3 && !strcmp(arguments[1], "memfd"))
		from_memory(arguments[2], arguments + 3);
	if (count > 2 && !strcmp(arguments[1], "unlinked"))
		from_nowhere(arguments + 2);
	if (count > 3 && !strcmp(arguments[1], "overlay"))
		from_overlay(arguments[2], arguments + 3);
	if (count > 2 && !strcmp(arguments[1], "fd"))
		from_descriptor(O_RDONLY, arguments + 2);
	if (count > 2 && !strcmp(arguments[1], "path"))
		from_descriptor(O_PATH, arguments + 2);
	if (count > 2 && !strcmp(arguments[1], "self")) {
		execv("/proc/self/exe", arguments + 1);
		must(0, "execv");
	}
	if (count > 3 && !strcmp(arguments[1], "uring")) {
		write_by_ring(arguments[2], arguments[3]);
		return 0;
	}
	if (count > 3 && !strcmp(arguments[1], "mapping")) {
		write_by_mapping(arguments[2], arguments[3]);
		return 0;
	}
	if (count > 2 && !strcmp(arguments[1], "say")) {
		puts(arguments[2]);
		return 0;
	}
	if (count > 2 && !strcmp(arguments[1], "gone")) {
		must(unlink(arguments[0]) == 0, "unlink");
		puts(arguments[2]);
		return 0;
	}
	if (count > 3 && !strcmp(arguments[1], "rename")) {
		must(rename(arguments[0], arguments[2]) == 0, "rename");
		puts(arguments[3]);
		return 0;
	}
	if (count > 3 && !strcmp(arguments[1], "replace")) {
		must(rename(arguments[2], arguments[0]) == 0, "rename");
		puts(arguments[3]);
		return 0;
	}
	if (count > 1 && !strcmp(arguments[1], "stay")) {
		sleep(60);
		return 0;
	}
	if (count > 2 && !strcmp(arguments[1], "map")) {
		map(arguments[2]);
		return 0;
	}
	if (count > 1 && !strcmp(arguments[1], "leave")) {
		must(unlink(arguments[0]) == 0, "unlink");
		pause();
	}
	fprintf(stderr, "odd: the words it knows are in its source\n");
	return 64;
}
