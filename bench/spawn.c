/*
 * spawn-calls CONCURRENCY
 *
 * Starts programs as a runtime starts network plugins, and times them: what the benchmark's own language would add to
 * each start is left out, and all that is compared is started alike. Standard input holds jobs:
 *
 *     u32 jobs, for each job: u32 calls, for each call: strings argv, strings envp, u32 length and standard input
 *
 * with `strings` as a u32 count and for each a u32 length and its bytes (little-endian). Everything is read before
 * anything is started. The calls of a job run one after another, jobs so many at a time. Standard output: u64 ns of
 * the whole; for each job and call u64 ns from start to end, u32 status, u32 length and what it printed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct call {
	char **argv;
	char **envp;
	char *input;
	uint32_t input_length;
	uint64_t ns;
	uint32_t status;
	char *output;
	uint32_t output_length;
};

struct job {
	struct call *calls;
	uint32_t count;
};

static struct job *jobs;
static uint32_t job_count;
static uint32_t next_job;

static void fail(const char *what)
{
	fprintf(stderr, "spawn-calls: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *allocate(size_t size)
{
	void *memory = calloc(1, size == 0 ? 1 : size);

	if (memory == NULL)
		fail("calloc");
	return memory;
}

static uint64_t now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void read_exact(void *to, size_t length)
{
	if (fread(to, 1, length, stdin) != length)
		fail("the jobs end early");
}

static uint32_t read_u32(void)
{
	uint32_t value;

	read_exact(&value, sizeof(value));
	return value;
}

static char *read_bytes(uint32_t *length)
{
	*length = read_u32();
	char *bytes = allocate((size_t)*length + 1);
	read_exact(bytes, *length);
	return bytes;
}

static char **read_strings(void)
{
	uint32_t count = read_u32(), length;
	char **strings = allocate(((size_t)count + 1) * sizeof(*strings));

	for (uint32_t at = 0; at < count; at += 1)
		strings[at] = read_bytes(&length);
	return strings;
}

static void read_output(struct call *call, int fd)
{
	uint32_t size = 4096;

	call->output = allocate(size);
	for (;;) {
		if (call->output_length == size) {
			size *= 2;
			call->output = realloc(call->output, size);
			if (call->output == NULL)
				fail("realloc");
		}
		ssize_t length = read(fd, call->output + call->output_length, size - call->output_length);
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0)
			fail("read");
		if (length == 0)
			return;
		call->output_length += (uint32_t)length;
	}
}

static void run_call(struct call *call)
{
	int input[2], output[2], status;
	posix_spawn_file_actions_t actions;
	pid_t pid;

	/* Close-on-exec: another thread's program must not hold these ends open. */
	if (pipe2(input, O_CLOEXEC) < 0 || pipe2(output, O_CLOEXEC) < 0)
		fail("pipe2");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, input[0], 0);
	posix_spawn_file_actions_adddup2(&actions, output[1], 1);

	uint64_t from = now();
	int error = posix_spawn(&pid, call->argv[0], &actions, NULL, call->argv, call->envp);
	if (error != 0) {
		errno = error;
		fail(call->argv[0]);
	}
	close(input[0]);
	close(output[1]);
	/* A configuration fits in a pipe's buffer; a program that does not read it is none of our concern. */
	if (write(input[1], call->input, call->input_length) < 0 && errno != EPIPE)
		fail("write");
	close(input[1]);
	read_output(call, output[0]);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail("waitpid");
	call->ns = now() - from;

	close(output[0]);
	posix_spawn_file_actions_destroy(&actions);
	call->status = WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 128u + (uint32_t)WTERMSIG(status);
}

static void *work(void *unused)
{
	(void)unused;
	for (;;) {
		uint32_t number = __atomic_fetch_add(&next_job, 1, __ATOMIC_RELAXED);
		if (number >= job_count)
			return NULL;
		for (uint32_t at = 0; at < jobs[number].count; at += 1)
			run_call(&jobs[number].calls[at]);
	}
}

int main(int argc, char **argv)
{
	long concurrency = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
	pthread_t threads[64];

	if (concurrency < 1 || concurrency > 64) {
		fprintf(stderr, "usage: spawn-calls CONCURRENCY (1 to 64)\n");
		return 2;
	}
	/* A program that ends without reading its input must not end this one. */
	sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	job_count = read_u32();
	jobs = allocate((size_t)job_count * sizeof(*jobs));
	for (uint32_t number = 0; number < job_count; number += 1) {
		struct job *job = &jobs[number];
		job->count = read_u32();
		job->calls = allocate((size_t)job->count * sizeof(*job->calls));
		for (uint32_t at = 0; at < job->count; at += 1) {
			struct call *call = &job->calls[at];
			call->argv = read_strings();
			call->envp = read_strings();
			call->input = read_bytes(&call->input_length);
		}
	}
	uint64_t from = now();
	for (long at = 0; at < concurrency; at += 1)
		if (pthread_create(&threads[at], NULL, work, NULL) != 0)
			fail("pthread_create");
	for (long at = 0; at < concurrency; at += 1)
		pthread_join(threads[at], NULL);
	uint64_t ns = now() - from;

	fwrite(&ns, sizeof(ns), 1, stdout);
	for (uint32_t number = 0; number < job_count; number += 1) {
		for (uint32_t at = 0; at < jobs[number].count; at += 1) {
			const struct call *call = &jobs[number].calls[at];
			fwrite(&call->ns, sizeof(call->ns), 1, stdout);
			fwrite(&call->status, sizeof(call->status), 1, stdout);
			fwrite(&call->output_length, sizeof(call->output_length), 1, stdout);
			fwrite(call->output, 1, call->output_length, stdout);
		}
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
