/*
 * tsnet-run READY_FD GO_FD -- COMMAND [ARG]...
 *
 * The sandbox of `tsnet run`: makes a network namespace and a mount namespace, says so by one byte on READY_FD,
 * waits for one byte on GO_FD (by then the agent has attached the process), and becomes COMMAND. The pid stays, so
 * signals, the terminal and the exit code need no relay. An end of file on GO_FD means that attaching failed and
 * was reported: exit 125 without a word. What follows the byte on GO_FD up to its end, if anything, becomes the
 * command's /etc/resolv.conf: bound over the file in the mount namespace, so the host's stays as it is.
 *
 * No PR_SET_PDEATHSIG: the command outlives a CLI that is killed, as it does under any other runner, and the agent
 * sees its end by its pidfd. /sys is not mounted again, so /sys/class/net shows the namespace of the mount, not the
 * command's. The loopback link is left to the agent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* The exit codes of env(1), nohup(1) and the container runtimes. */
enum { EXIT_OURS = 125, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

static void fail(const char *what)
{
	fprintf(stderr, "tsnet-run: %s: %s\n", what, strerror(errno));
	exit(EXIT_OURS);
}

static int parse_fd(const char *text)
{
	char *end;

	errno = 0;
	long fd = strtol(text, &end, 10);
	/* The first three are the command's own. */
	if (errno != 0 || end == text || *end != '\0' || fd < 3 || fd > INT_MAX || fcntl((int)fd, F_GETFD) < 0) {
		fprintf(stderr, "tsnet-run: not an open descriptor from 3 up: %s\n", text);
		exit(EXIT_OURS);
	}
	/* A caller's non-blocking end would make the wait look like an end of file. */
	if (fcntl((int)fd, F_SETFL, fcntl((int)fd, F_GETFL) & ~O_NONBLOCK) < 0)
		fail("fcntl");
	return (int)fd;
}

/* The command starts as from a fresh shell, whatever the caller ignored or blocked. */
static void reset_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int number = 1; number < NSIG; number += 1)
		sigaction(number, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void enter_namespaces(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
		fail("unshare");
	/* Later mounts of the host still arrive; the command's own never reach it. */
	if (mount("", "/", "none", MS_REC | MS_SLAVE, NULL) < 0)
		fail("mount --make-rslave /");
}

static void announce(int fd)
{
	ssize_t length;

	do {
		length = write(fd, "r", 1);
	} while (length < 0 && errno == EINTR);
	if (length != 1)
		exit(EXIT_OURS);
}

static void await_go(int fd)
{
	char byte;
	ssize_t length;

	do {
		length = read(fd, &byte, 1);
	} while (length < 0 && errno == EINTR);
	if (length != 1)
		exit(EXIT_OURS);
}

enum { LONGEST_RESOLV_CONF = 65536 };

static size_t read_rest(int fd, char *text, size_t room)
{
	size_t length = 0;

	while (length < room) {
		ssize_t more = read(fd, text + length, room - length);
		if (more < 0 && errno == EINTR)
			continue;
		if (more <= 0)
			break;
		length += (size_t)more;
	}
	return length;
}

/* A command that runs without its names is better than none: what fails here is said, and that is all. */
static void bind_resolv_conf(int fd)
{
	static char text[LONGEST_RESOLV_CONF];
	char path[] = "/run/tsnet-resolv-XXXXXX";
	size_t length = read_rest(fd, text, sizeof text);

	if (length == 0)
		return;
	int file = mkostemp(path, O_CLOEXEC);
	if (file < 0) {
		fprintf(stderr, "tsnet-run: %s: %s; names are looked up as on the host\n", path, strerror(errno));
		return;
	}
	bool is_bound = write(file, text, length) == (ssize_t)length && fchmod(file, 0644) == 0 &&
			mount(path, "/etc/resolv.conf", NULL, MS_BIND, NULL) == 0;
	if (!is_bound)
		fprintf(stderr, "tsnet-run: /etc/resolv.conf: %s; names are looked up as on the host\n", strerror(errno));
	close(file);
	/* The mount keeps it. */
	unlink(path);
}

int main(int argc, char **argv)
{
	if (argc < 5 || strcmp(argv[3], "--") != 0) {
		fprintf(stderr, "usage: tsnet-run READY_FD GO_FD -- COMMAND [ARG]...\n");
		return EXIT_OURS;
	}
	int ready_fd = parse_fd(argv[1]);
	int go_fd = parse_fd(argv[2]);

	reset_signals();
	signal(SIGPIPE, SIG_IGN);
	enter_namespaces();
	announce(ready_fd);
	await_go(go_fd);
	bind_resolv_conf(go_fd);
	close(ready_fd);
	close(go_fd);
	signal(SIGPIPE, SIG_DFL);
	execvp(argv[4], argv + 4);
	int code = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
	fprintf(stderr, "tsnet-run: exec %s: %s\n", argv[4], strerror(errno));
	return code;
}
