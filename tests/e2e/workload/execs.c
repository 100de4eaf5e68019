/*
 * Executes a program again and again, and tells how long each time took.
 *
 *   execs COUNT PROGRAM               from before vfork to after waitpid, in nanoseconds, a line each
 *   execs COUNT PROGRAM PER_SECOND    as evenly as that; prints nothing. PER_SECOND 0: as fast as it can
 *   execs at PROGRAM                  once, in its own place, and says before when: nanoseconds of the wall clock
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The first ones fill caches. */
#define WARM 50

extern char **environ;

static long long now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void once(char *program)
{
	char *arguments[] = { program, NULL };
	int status = 0;
	pid_t child = vfork();

	if (child == 0) {
		execve(program, arguments, environ);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "%s did not end well\n", program);
		exit(125);
	}
}

int main(int count, char **arguments)
{
	long times = count > 2 ? atol(arguments[1]) : 0;
	long rate = count > 3 ? atol(arguments[3]) : -1;
	long long *took = calloc(times > 0 ? times : 1, sizeof(*took)), began;

	if (count == 3 && !strcmp(arguments[1], "at")) {
		printf("%lld\n", now(CLOCK_REALTIME));
		fflush(stdout);
		execve(arguments[2], arguments + 2, environ);
		perror(arguments[2]);
		return 125;
	}
	if (times <= 0 || !took) {
		fprintf(stderr, "execs COUNT PROGRAM [PER_SECOND]\n");
		return 64;
	}
	if (rate < 0)
		for (int i = 0; i < WARM; i++)
			once(arguments[2]);
	began = now(CLOCK_MONOTONIC);
	for (long i = 0; i < times; i++) {
		if (rate > 0) {
			long long due = began + i * 1000000000LL / rate;
			struct timespec until = { due / 1000000000LL, due % 1000000000LL };

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		}
		took[i] = now(CLOCK_MONOTONIC);
		once(arguments[2]);
		took[i] = now(CLOCK_MONOTONIC) - took[i];
	}
	for (long i = 0; rate < 0 && i < times; i++)
		printf("%lld\n", took[i]);
	return 0;
}
