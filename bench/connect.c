/*
 * connect-http ADDRESS PORT FOR-MS AT-ONCE
 *
 * The other end of serve-http: opens connections, AT-ONCE of them at any time, each for one answer, for so many
 * milliseconds. Prints {"perSecond": …, "failed": …}. It costs little and starts at once, so that subjects can take
 * turns every fraction of a second.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_AT_ONCE 64
static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";

static double now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/*
 * A connection under way: POLLOUT until it is there, then POLLIN until the answer is. It ends with a reset, which leaves
 * no port waiting behind: the next ones would run out of them.
 */
static void begin(struct pollfd *each, const struct sockaddr_in *to)
{
	const struct linger reset = { .l_onoff = 1 };
	each->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	each->events = POLLOUT;
	if (each->fd < 0 || setsockopt(each->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) != 0 || (connect(each->fd, (const struct sockaddr *)to, sizeof(*to)) != 0 && errno != EINPROGRESS)) {
		perror("connect-http");
		exit(1);
	}
}

/* 1 once it has ended well, -1 once it has failed, 0 while it goes on. */
static int go_on(struct pollfd *each)
{
	char answer[4096];
	if (each->events == POLLOUT) {
		if (send(each->fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
			return -1;
		each->events = POLLIN;
		return 0;
	}
	const ssize_t got = recv(each->fd, answer, sizeof(answer), 0);
	return got > 12 && memcmp(answer, "HTTP/1.1 200", 12) == 0 ? 1 : -1;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct pollfd all[MOST_AT_ONCE];
	const int at_once = argc == 5 ? atoi(argv[4]) : 0;
	if (at_once < 1 || at_once > MOST_AT_ONCE || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
		fputs("usage: connect-http ADDRESS PORT FOR-MS AT-ONCE\n", stderr);
		return 2;
	}
	to.sin_port = htons((uint16_t)atoi(argv[2]));
	const double started = now_ms();
	const double until = started + atof(argv[3]);
	long done = 0;
	long failed = 0;
	for (int index = 0; index < at_once; index++)
		begin(&all[index], &to);
	while (now_ms() < until && failed == 0) {
		if (poll(all, (nfds_t)at_once, 1000) <= 0)
			failed++;
		for (int index = 0; index < at_once; index++) {
			const int ended = all[index].revents != 0 ? go_on(&all[index]) : 0;
			if (ended == 0)
				continue;
			close(all[index].fd);
			begin(&all[index], &to);
			if (ended > 0)
				done++;
			else
				failed++;
		}
	}
	printf("{\"perSecond\":%.0f,\"failed\":%ld}\n", (double)done / (now_ms() - started) * 1e3, failed);
	return 0;
}
