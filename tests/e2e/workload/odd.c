/*
 * Ways to execute a program that a shell has not: the image of the runtime scenarios holds this, linked statically.
 *
 *   odd memfd NAME PROGRAM ARGUMENT ...      a copy of PROGRAM in a memory file NAME
 *   odd unlinked PROGRAM ARGUMENT ...        PROGRAM, after its name was removed
 *   odd overlay FOLDER PROGRAM ARGUMENT ...  a copy of PROGRAM from an overlay in a user namespace of its own
 *   odd map FILE                             nothing but a mapping of FILE for execution
 *   odd leave                                removes its own name, and stays
 */
#define _GNU_SOURCE
#include <fcntl.h>
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
	if (count > 2 && !strcmp(arguments[1], "map")) {
		map(arguments[2]);
		return 0;
	}
	if (count > 1 && !strcmp(arguments[1], "leave")) {
		must(unlink(arguments[0]) == 0, "unlink");
		pause();
	}
	fprintf(stderr, "odd memfd NAME|unlinked|overlay FOLDER PROGRAM ARGUMENT ..., odd map FILE, or odd leave\n");
	return 64;
}
