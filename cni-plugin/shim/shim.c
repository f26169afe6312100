/*
 * The plugin as runtimes start it: hands environment and standard input to the agent and prints what that answers.
 *
 * It answers by itself what needs no agent (VERSION, and everything that is wrong with the call), and stands in for an
 * agent that is away: an ADD may be tried again (code 11); a DEL is written down for the agent to do later, and so is
 * done as far as the runtime is concerned. The order of the checks and the texts are those of the reference library
 * (containernetworking/cni, pkg/skel), since runtimes show them to people and some match on them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "scan.h"

#define DEFAULT_SOCKET "/run/tsnet/agent.sock"
#define LATEST "1.1.0"

enum {
	MAX_STDIN_BYTES = 1 << 20,
	MAX_ENV_BYTES = 128 << 10,
	MAX_ANSWER_BYTES = 4 << 20,
	/* Of an answer: one byte of status, four of length. */
	HEAD_BYTES = 5,
	/* The most impatient runtime kills its plugins after 5 s. */
	DEADLINE_MS = 4500,
	MAX_SPOOLED = 10000,
};

/* Error codes of the specification. */
enum {
	ERR_VERSION = 1,
	ERR_UNKNOWN_CONTAINER = 3,
	ERR_ENVIRONMENT = 4,
	ERR_IO = 5,
	ERR_DECODE = 6,
	ERR_CONFIG = 7,
	ERR_TRY_LATER = 11,
	ERR_NOT_AVAILABLE = 50,
	ERR_LIMITED = 51,
	ERR_INTERNAL = 999,
};

static const char *const versions[] = { "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0" };
enum { VERSION_COUNT = sizeof(versions) / sizeof(versions[0]) };

enum verb { ADD = 1, DEL = 2, CHECK = 4, GC = 8, STATUS = 16, VERSION = 32, NONE = 0 };

struct variable {
	const char *name;
	/* The verbs that need it. */
	unsigned needed_by;
	const char *value;
};

enum { COMMAND, CONTAINERID, NETNS, IFNAME, ARGS, PATH, OVERRIDE, VARIABLES };

static struct variable variables[VARIABLES] = {
	[COMMAND] = { "CNI_COMMAND", ADD | DEL | CHECK | GC | STATUS | VERSION, "" },
	[CONTAINERID] = { "CNI_CONTAINERID", ADD | DEL | CHECK, "" },
	[NETNS] = { "CNI_NETNS", ADD | CHECK, "" },
	[IFNAME] = { "CNI_IFNAME", ADD | DEL | CHECK, "" },
	[ARGS] = { "CNI_ARGS", 0, "" },
	[PATH] = { "CNI_PATH", ADD | DEL | CHECK | GC | STATUS, "" },
	[OVERRIDE] = { "CNI_NETNS_OVERRIDE", 0, "" },
};

/* A growing text; what cannot grow any more ends the program, which has done nothing yet that would need undoing. */
struct text {
	char *bytes;
	size_t length;
	size_t room;
};

static void put(struct text *text, const char *bytes, size_t length)
{
	if (text->length + length + 1 > text->room) {
		text->room = (text->length + length + 1) * 2;
		text->bytes = realloc(text->bytes, text->room);
		if (text->bytes == NULL)
			_exit(1);
	}
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
	text->bytes[text->length] = '\0';
}

static void put_text(struct text *text, const char *more)
{
	put(text, more, strlen(more));
}

/* Bytes of the UTF-8 sequence at the start of a text; 0 where there is none. */
static size_t utf8_length(const unsigned char *s, size_t left, unsigned *point)
{
	size_t length = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;

	if (length == 0 || length > left)
		return 0;
	*point = length == 1 ? s[0] : s[0] & (0x7fu >> length);
	for (size_t at = 1; at < length; at += 1) {
		if ((s[at] & 0xc0) != 0x80)
			return 0;
		*point = *point << 6 | (s[at] & 0x3f);
	}
	if ((length == 3 && *point < 0x800) || (length == 4 && (*point < 0x10000 || *point > 0x10ffff)))
		return 0;
	return *point >= 0xd800 && *point < 0xe000 ? 0 : length;
}

/* Writes a JSON string; what is no UTF-8 becomes U+FFFD. */
static void put_json(struct text *text, const char *value, size_t length)
{
	const unsigned char *s = (const unsigned char *)value;

	put_text(text, "\"");
	for (size_t at = 0; at < length;) {
		unsigned point = 0;
		size_t size = utf8_length(s + at, length - at, &point);
		char escape[8];

		if (size == 0) {
			put_text(text, "\\ufffd");
			size = 1;
		} else if (point == '"' || point == '\\') {
			escape[0] = '\\';
			escape[1] = (char)point;
			put(text, escape, 2);
		} else if (point < 0x20 || point == 0x7f) {
			snprintf(escape, sizeof(escape), "\\u%04x", point);
			put_text(text, escape);
		} else {
			put(text, value + at, size);
		}
		at += size;
	}
	put_text(text, "\"");
}

/* False where not all could be written: whoever does not get an answer must not be told that all is well. */
static bool write_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t written = write(fd, bytes, length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		bytes += written;
		length -= (size_t)written;
	}
	return true;
}

/* What is closed stays unreadable and unwritable, but no socket of ours may become standard output. */
static void claim_standard_files(void)
{
	int fd;

	do
		fd = open("/", O_PATH | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* What the configuration says, as far as it matters here. */
static struct scan config;

static bool is_supported(const char *version)
{
	for (int at = 0; at < VERSION_COUNT; at += 1)
		if (strcmp(version, versions[at]) == 0)
			return true;
	return false;
}

/* The configuration's version; the reference library's default where it has none. */
static const char *config_version(void)
{
	const char *version = config.text[SCAN_VERSION];
	return version == NULL || version[0] == '\0' ? "0.1.0" : version;
}

/* Prints an error and ends. */
static void fail(int code, const char *msg, const char *details, size_t details_length)
{
	struct text text = { 0 };
	char number[16];
	const char *version = config.text[SCAN_VERSION];

	put_text(&text, "{\n    \"cniVersion\": \"");
	put_text(&text, version != NULL && is_supported(version) ? version : LATEST);
	snprintf(number, sizeof(number), "%d", code);
	put_text(&text, "\",\n    \"code\": ");
	put_text(&text, number);
	put_text(&text, ",\n    \"msg\": ");
	put_json(&text, msg, strlen(msg));
	if (details_length > 0) {
		put_text(&text, ",\n    \"details\": ");
		put_json(&text, details, details_length);
	}
	put_text(&text, "\n}\n");
	write_all(STDOUT_FILENO, text.bytes, text.length);
	_exit(1);
}

static void fail_with(int code, const char *msg, const char *details)
{
	fail(code, msg, details, strlen(details));
}

static void put_version_list(struct text *text, const char *quote, const char *separator)
{
	for (int at = 0; at < VERSION_COUNT; at += 1) {
		put_text(text, at == 0 ? "" : separator);
		put_text(text, quote);
		put_text(text, versions[at]);
		put_text(text, quote);
	}
}

static bool print_version(void)
{
	struct text text = { 0 };

	put_text(&text, "{\"cniVersion\":\"" LATEST "\",\"supportedVersions\":[");
	put_version_list(&text, "\"", ",");
	put_text(&text, "]}\n");
	return write_all(STDOUT_FILENO, text.bytes, text.length);
}

static void print_about(void)
{
	struct text text = { 0 };

	put_text(&text, "CNI plugin tsnet v" TSNET_VERSION "\nCNI protocol versions supported: ");
	put_version_list(&text, "", ", ");
	put_text(&text, "\n");
	write_all(STDERR_FILENO, text.bytes, text.length);
}

static enum verb verb_of(const char *command)
{
	static const struct { const char *name; enum verb verb; } known[] = {
		{ "ADD", ADD }, { "DEL", DEL }, { "CHECK", CHECK }, { "GC", GC }, { "STATUS", STATUS }, { "VERSION", VERSION },
	};

	for (size_t at = 0; at < sizeof(known) / sizeof(known[0]); at += 1)
		if (strcmp(command, known[at].name) == 0)
			return known[at].verb;
	return NONE;
}

/*
 * The library demands CNI_PATH of every verb, the specification only of GC: it alone is missing for nobody else, but is
 * named with the others.
 */
static void check_variables(enum verb verb)
{
	struct text missing = { 0 };
	bool is_failure = false;
	size_t total = 0;

	put_text(&missing, "required env variables [");
	for (int at = 0; at < VARIABLES; at += 1) {
		const char *value = getenv(variables[at].name);
		variables[at].value = value == NULL ? "" : value;
		total += strlen(variables[at].value);
		if (variables[at].value[0] != '\0' || (variables[at].needed_by & verb) == 0)
			continue;
		if (missing.bytes[missing.length - 1] != '[')
			put_text(&missing, ",");
		put_text(&missing, variables[at].name);
		is_failure = is_failure || at != PATH || verb == GC;
	}
	put_text(&missing, "] missing");
	if (is_failure)
		fail(ERR_ENVIRONMENT, missing.bytes, "", 0);
	if (total > MAX_ENV_BYTES)
		fail_with(ERR_ENVIRONMENT, "CNI variables are too long", "more than 128 KiB in all");
	free(missing.bytes);
}

static bool is_name(const char *text, size_t length)
{
	for (size_t at = 0; at < length; at += 1) {
		char c = text[at];
		bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		if (!is_letter && (at == 0 || strchr("_.-", c) == NULL || c == '\0'))
			return false;
	}
	return length > 0;
}

/* White space as Go's unicode.IsSpace has it. */
static bool is_space(unsigned point)
{
	return (point >= 0x09 && point <= 0x0d) || point == 0x20 || point == 0x85 || point == 0xa0 || point == 0x1680 ||
	       (point >= 0x2000 && point <= 0x200a) || point == 0x2028 || point == 0x2029 || point == 0x202f ||
	       point == 0x205f || point == 0x3000;
}

static void check_ifname(const char *name)
{
	size_t length = strlen(name);

	if (length > 15)
		fail_with(ERR_ENVIRONMENT, "interface name is too long", "interface name should be less than 16 characters");
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		fail(ERR_ENVIRONMENT, "interface name is . or ..", "", 0);
	for (size_t at = 0; at < length;) {
		unsigned point = 0;
		size_t size = utf8_length((const unsigned char *)name + at, length - at, &point);
		if (point == '/' || point == ':' || (size > 0 && is_space(point)))
			fail(ERR_ENVIRONMENT, "interface name contains / or : or whitespace characters", "", 0);
		at += size == 0 ? 1 : size;
	}
}

static void read_stdin(struct text *input)
{
	static char chunk[64 << 10];

	put(input, "", 0);
	for (;;) {
		ssize_t length = read(STDIN_FILENO, chunk, sizeof(chunk));
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0) {
			struct text msg = { 0 };
			put_text(&msg, "error reading from stdin: ");
			put_text(&msg, strerror(errno));
			fail(ERR_IO, msg.bytes, "", 0);
		}
		if (length == 0)
			return;
		if (input->length + (size_t)length > MAX_STDIN_BYTES)
			fail_with(ERR_DECODE, "network config is too large", "more than 1 MiB");
		put(input, chunk, (size_t)length);
	}
}

static void check_config(const struct text *input)
{
	struct text msg = { 0 };
	bool is_broken = scan_json(input->bytes, input->length, &config) < 0;

	if (is_broken || config.mistyped == SCAN_NAME) {
		put_text(&msg, "error unmarshall network config: ");
		put_text(&msg, is_broken ? config.error : "\"name\" is not a string");
		fail(ERR_DECODE, msg.bytes, "", 0);
	}
	if (config.length[SCAN_NAME] == 0)
		fail(ERR_CONFIG, "missing network name", "", 0);
	if (!is_name(config.text[SCAN_NAME], config.length[SCAN_NAME]))
		fail(ERR_CONFIG, "invalid characters found in network name", config.text[SCAN_NAME], config.length[SCAN_NAME]);
}

/* Compares versions of up to three numbers. */
static int compare_versions(const char *a, const char *b)
{
	for (int part = 0; part < 3; part += 1) {
		char *end_a, *end_b;
		long of_a = strtol(a, &end_a, 10), of_b = strtol(b, &end_b, 10);
		if (of_a != of_b)
			return of_a < of_b ? -1 : 1;
		a = *end_a == '.' ? end_a + 1 : end_a;
		b = *end_b == '.' ? end_b + 1 : end_b;
	}
	return 0;
}

static bool is_version(const char *text)
{
	int parts = 0;

	for (;; text += 1) {
		size_t digits = strspn(text, "0123456789");
		if (digits == 0 || digits > 6)
			return false;
		parts += 1;
		text += digits;
		if (*text == '\0')
			return parts <= 3;
		if (*text != '.')
			return false;
	}
}

static void check_version(enum verb verb)
{
	struct text text = { 0 };
	const char *version;

	if (config.mistyped != SCAN_FIELDS) {
		put_text(&text, config.mistyped == SCAN_VERSION ? "decoding version from network config: \"" : "error unmarshall network config: \"");
		put_text(&text, scan_field_name(config.mistyped));
		put_text(&text, "\" is not a string");
		fail(ERR_DECODE, text.bytes, "", 0);
	}
	version = config_version();
	if ((verb & (CHECK | GC | STATUS)) != 0) {
		bool is_older;
		if (!is_version(version) || strlen(version) != config.length[SCAN_VERSION] + (config.length[SCAN_VERSION] == 0 ? 5 : 0)) {
			put_text(&text, "failed to convert version \"");
			put_text(&text, version);
			put_text(&text, "\"");
			fail(ERR_DECODE, text.bytes, "", 0);
		}
		is_older = compare_versions(version, verb == CHECK ? "0.4.0" : "1.1.0") < 0;
		if (is_older || compare_versions(version, LATEST) > 0) {
			put_text(&text, is_older ? "config version does not allow " : "plugin version does not allow ");
			put_text(&text, variables[COMMAND].value);
			fail(ERR_VERSION, text.bytes, "", 0);
		}
	}
	if (is_supported(version) && (config.length[SCAN_VERSION] == 0 || strlen(version) == config.length[SCAN_VERSION]))
		return;
	put_text(&text, "config is ");
	put_json(&text, version, config.length[SCAN_VERSION]);
	put_text(&text, ", plugin supports [");
	put_version_list(&text, "\"", " ");
	put_text(&text, "]");
	fail_with(ERR_VERSION, "incompatible CNI versions", text.bytes);
}

/* ── the agent ─────────────────────────────────────────────────────────────── */

static const char *socket_path(void)
{
	enum scan_field field = config.length[SCAN_IPAM_SOCKET] > 0 && config.length[SCAN_SOCKET] == 0 ? SCAN_IPAM_SOCKET : SCAN_SOCKET;
	const char *path = config.text[field];
	struct sockaddr_un address;

	if (config.length[field] == 0)
		return DEFAULT_SOCKET;
	if (path[0] != '/' || strlen(path) != config.length[field] || config.length[field] >= sizeof(address.sun_path))
		fail(ERR_CONFIG, "agentSocket: not an absolute path of a socket", path, config.length[field]);
	return path;
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until a socket can be read or written; false once the deadline has passed. */
static bool await_socket(int fd, short events, long deadline_ms)
{
	struct pollfd wanted = { .fd = fd, .events = events };

	for (;;) {
		long left_ms = deadline_ms - now_ms();
		int ready = left_ms <= 0 ? 0 : poll(&wanted, 1, (int)left_ms);
		if (ready > 0)
			return true;
		if (ready == 0 || errno != EINTR)
			return false;
	}
}

/* The agent serves the plugin on a socket of its own, beside the one that the configuration names. */
static struct sockaddr_un call_address(const char *socket)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int folder = (int)(strrchr(socket, '/') - socket);
	int length = snprintf(address.sun_path, sizeof(address.sun_path), "%.*s/cni.sock", folder, socket);

	if (length < 0 || (size_t)length >= sizeof(address.sun_path))
		fail_with(ERR_CONFIG, "agentSocket: the path is too long", socket);
	return address;
}

/* Sends everything before the deadline; false with the reason in `why`. */
static bool send_all(int fd, const struct text *text, long deadline_ms, const char **why)
{
	for (size_t sent = 0; sent < text->length;) {
		ssize_t size = send(fd, text->bytes + sent, text->length - sent, MSG_NOSIGNAL);
		if (size >= 0) {
			sent += (size_t)size;
		} else if (errno == EAGAIN) {
			if (await_socket(fd, POLLOUT, deadline_ms))
				continue;
			*why = "the agent does not answer";
			return false;
		} else if (errno != EINTR) {
			*why = strerror(errno);
			return false;
		}
	}
	return true;
}

/* Connects and sends: four bytes of length, and the frame. The socket, or -1 with the reason in `why`. */
static int send_call(const struct sockaddr_un *to, const struct text *frame, long deadline_ms, const char **why)
{
	struct text call = { 0 };
	const unsigned char length[] = { (unsigned char)(frame->length >> 24), (unsigned char)(frame->length >> 16),
					 (unsigned char)(frame->length >> 8), (unsigned char)frame->length };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*why = fd < 0 ? strerror(errno) : NULL;
	/* A full backlog of a unix socket says EAGAIN and cannot be polled for. */
	while (*why == NULL && connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			*why = strerror(errno);
		else if (now_ms() >= deadline_ms)
			*why = "the agent does not answer";
		else
			poll(NULL, 0, 5);
	}
	put(&call, (const char *)length, sizeof(length));
	put(&call, frame->bytes, frame->length);
	if (*why == NULL && send_all(fd, &call, deadline_ms, why)) {
		free(call.bytes);
		return fd;
	}
	free(call.bytes);
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Bytes of an answer's text, from its head; -1 where it is none of ours. */
static long answer_length(const struct text *answer)
{
	const unsigned char *head = (const unsigned char *)answer->bytes;
	unsigned long length = (unsigned long)head[1] << 24 | (unsigned long)head[2] << 16 | (unsigned long)head[3] << 8 | head[4];

	return head[0] > 1 || length > MAX_ANSWER_BYTES ? -1 : (long)length;
}

/* Reads the answer and prints its text; the status to exit with, or -1 with the reason in `why`. */
static int receive_answer(int fd, long deadline_ms, const char **why)
{
	static char chunk[64 << 10];
	struct text answer = { 0 };
	long length = -1;

	while (length < 0 || answer.length - HEAD_BYTES < (size_t)length) {
		ssize_t size = recv(fd, chunk, sizeof(chunk), 0);
		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == EAGAIN) {
			if (await_socket(fd, POLLIN, deadline_ms))
				continue;
			*why = "the agent does not answer";
			return -1;
		}
		if (size <= 0) {
			*why = size == 0 ? "the agent broke off" : strerror(errno);
			return -1;
		}
		put(&answer, chunk, (size_t)size);
		if (length < 0 && answer.length >= HEAD_BYTES && (length = answer_length(&answer)) < 0) {
			*why = "what listens there does not serve CNI";
			return -1;
		}
	}
	return write_all(STDOUT_FILENO, answer.bytes + HEAD_BYTES, (size_t)length) ? answer.bytes[0] : 1;
}

/* ── the spool ─────────────────────────────────────────────────────────────── */

/* Opens the folder beside the socket, making it where it is missing; it must be ours alone. -1 with errno. */
static int open_spool(const char *socket)
{
	struct text path = { 0 };
	struct stat status;
	int fd;

	put(&path, socket, (size_t)(strrchr(socket, '/') - socket));
	put_text(&path, path.length == 0 ? "/" : "");
	mkdir(path.bytes, 0755);
	put_text(&path, "/cni-spool");
	mkdir(path.bytes, 0700);
	fd = open(path.bytes, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	free(path.bytes);
	if (fd < 0)
		return -1;
	if (fstat(fd, &status) < 0 || status.st_uid != geteuid() || (status.st_mode & 022) != 0) {
		close(fd);
		errno = EPERM;
		return -1;
	}
	return fd;
}

static bool is_full(int folder)
{
	DIR *entries = fdopendir(dup(folder));
	int count = 0;

	while (entries != NULL && count <= MAX_SPOOLED && readdir(entries) != NULL)
		count += 1;
	if (entries != NULL)
		closedir(entries);
	return count > MAX_SPOOLED;
}

/* Writes the call down for the agent; false with the reason in errno. No fsync: a boot ends every attachment. */
static bool spool(const char *socket, const struct text *body)
{
	int folder = open_spool(socket);
	struct timespec now;
	char stem[64], part[80], name[80];
	int fd;

	if (folder < 0)
		return false;
	if (is_full(folder)) {
		errno = ENOSPC;
		return false;
	}
	clock_gettime(CLOCK_BOOTTIME, &now);
	/* In the order of the calls when sorted by name. */
	snprintf(stem, sizeof(stem), "%012lld.%09ld-%ld", (long long)now.tv_sec, now.tv_nsec, (long)getpid());
	snprintf(part, sizeof(part), ".%s.part", stem);
	snprintf(name, sizeof(name), "%s.del", stem);
	fd = openat(folder, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	for (size_t written = 0; written < body->length;) {
		ssize_t size = write(fd, body->bytes + written, body->length - written);
		if (size < 0 && errno == EINTR)
			continue;
		if (size <= 0) {
			unlinkat(folder, part, 0);
			return false;
		}
		written += (size_t)size;
	}
	return close(fd) == 0 && renameat(folder, part, folder, name) == 0;
}

/* What a runtime is told while no agent answers. */
static int without_agent(enum verb verb, const char *socket, const struct text *body, const char *why)
{
	struct text details = { 0 };
	const struct sockaddr_un address = call_address(socket);

	put_text(&details, "socket ");
	put_text(&details, address.sun_path);
	put_text(&details, ": ");
	put_text(&details, why);
	if (verb == DEL) {
		if (spool(socket, body))
			return 0;
		put_text(&details, "; spool: ");
		put_text(&details, strerror(errno));
	}
	put_text(&details, "; start the agent (tsnet agent)");
	if (verb == STATUS) {
		/* Nobody listens: no ADD. Somebody listens and is stuck: what is there may not be kept right either. */
		bool is_stuck = strcmp(why, "the agent does not answer") == 0;
		fail_with(is_stuck ? ERR_LIMITED : ERR_NOT_AVAILABLE, "tsnet's agent is not available", details.bytes);
	}
	fail_with(ERR_TRY_LATER, "tsnet's agent is not available", details.bytes);
	return 1;
}

int main(void)
{
	const char *command = getenv("CNI_COMMAND");
	struct text input = { 0 }, body = { 0 };
	const char *why = NULL;
	long deadline_ms = now_ms() + DEADLINE_MS;
	enum verb verb;

	claim_standard_files();
	if (command == NULL || command[0] == '\0') {
		print_about();
		return 0;
	}
	verb = verb_of(command);
	if (verb == VERSION)
		return print_version() ? 0 : 1;
	check_variables(verb);
	read_stdin(&input);
	check_config(&input);
	if ((verb & (ADD | DEL | CHECK)) != 0) {
		const char *id = variables[CONTAINERID].value;
		if (!is_name(id, strlen(id)))
			fail_with(ERR_ENVIRONMENT, "invalid characters in containerID", id);
		check_ifname(variables[IFNAME].value);
	}
	if (verb == NONE) {
		put_text(&body, "unknown CNI_COMMAND: ");
		put_text(&body, command);
		fail(ERR_ENVIRONMENT, body.bytes, "", 0);
	}
	check_version(verb);

	const char *path = socket_path();
	for (int at = 0; at < VARIABLES; at += 1) {
		if (variables[at].value[0] == '\0')
			continue;
		put_text(&body, variables[at].name);
		put_text(&body, "=");
		put(&body, variables[at].value, strlen(variables[at].value) + 1);
	}
	put(&body, "", 1);
	put(&body, input.bytes, input.length);
	const struct sockaddr_un address = call_address(path);
	int fd = send_call(&address, &body, deadline_ms, &why);
	int status = fd < 0 ? -1 : receive_answer(fd, deadline_ms, &why);
	return status < 0 ? without_agent(verb, path, &body, why) : status;
}
