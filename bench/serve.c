/*
 * serve-http PORT NAME
 *
 * A backend that costs next to nothing, so that connections a second are those of the network: it takes a connection,
 * reads what has come as one request, answers and closes. The body is what the lab's clients of services read:
 * {"name": NAME, "client": ""}. Ends with standard input.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int listen_on(int port)
{
	struct sockaddr_in6 place = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	const int on = 1;
	const int off = 0;
	const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0 ||
	    bind(fd, (struct sockaddr *)&place, sizeof(place)) != 0 || listen(fd, 1024) != 0) {
		perror("serve-http");
		exit(1);
	}
	return fd;
}

static void serve(int fd, const char *answer, size_t length)
{
	const struct timeval patience = { .tv_sec = 1 };
	const int on = 1;
	char request[4096];
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (recv(fd, request, sizeof(request), 0) > 0)
		send(fd, answer, length, MSG_NOSIGNAL);
	close(fd);
}

int main(int argc, char **argv)
{
	char body[256];
	char answer[512];
	if (argc != 3 || strlen(argv[2]) > 63) {
		fputs("usage: serve-http PORT NAME\n", stderr);
		return 2;
	}
	const int body_length = snprintf(body, sizeof(body), "{\"name\":\"%s\",\"client\":\"\"}", argv[2]);
	const int length = snprintf(answer, sizeof(answer),
				    "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
				    body_length, body);
	struct pollfd watched[2] = { { .fd = listen_on(atoi(argv[1])), .events = POLLIN },
				     { .fd = STDIN_FILENO, .events = POLLIN } };
	puts("{\"ready\":true}");
	fflush(stdout);
	while (poll(watched, 2, -1) > 0) {
		if (watched[1].revents != 0 && read(STDIN_FILENO, body, sizeof(body)) <= 0)
			return 0;
		for (int fd; (fd = accept4(watched[0].fd, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
			serve(fd, answer, (size_t)length);
	}
	return 1;
}
