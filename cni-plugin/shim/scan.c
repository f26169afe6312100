#include "scan.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct reader {
	const char *text;
	size_t length;
	size_t at;
	struct scan *scan;
	/* One bit a level: whether it is an object. */
	bool is_object[SCAN_MAX_DEPTH];
	int depth;
	/* The level-1 key whose value is read is "ipam", and so its object is level 2. */
	bool in_ipam;
};

static const char *const names[SCAN_FIELDS] = { "name", "cniVersion", "type", "agentSocket", "ipam.agentSocket" };

const char *scan_field_name(enum scan_field field)
{
	return names[field];
}

static int fail(struct reader *r, const char *error)
{
	r->scan->error = error;
	r->scan->offset = r->at;
	return -1;
}

/* The next byte, or -1 at the end. */
static int peek(const struct reader *r)
{
	return r->at < r->length ? (unsigned char)r->text[r->at] : -1;
}

static void skip_space(struct reader *r)
{
	for (;;) {
		int c = peek(r);
		if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
			return;
		r->at += 1;
	}
}

static int hex_digit(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Reads a string from its opening quote to behind its closing one; where its content is. */
static int read_string(struct reader *r, size_t *from, size_t *to)
{
	r->at += 1;
	*from = r->at;
	for (;;) {
		int c = peek(r);
		if (c < 0)
			return fail(r, "unexpected end of JSON input");
		if (c < 0x20)
			return fail(r, "control character in a string");
		r->at += 1;
		if (c == '"') {
			*to = r->at - 1;
			return 0;
		}
		if (c != '\\')
			continue;
		c = peek(r);
		if (c < 0)
			return fail(r, "unexpected end of JSON input");
		if (strchr("\"\\/bfnrtu", c) == NULL || c == '\0')
			return fail(r, "invalid escape in a string");
		r->at += 1;
		for (int digit = 0; c == 'u' && digit < 4; digit += 1, r->at += 1)
			if (hex_digit(peek(r)) < 0)
				return fail(r, peek(r) < 0 ? "unexpected end of JSON input" : "invalid escape in a string");
	}
}

static unsigned read_hex4(const char *text)
{
	unsigned value = 0;

	for (int digit = 0; digit < 4; digit += 1)
		value = value << 4 | (unsigned)hex_digit((unsigned char)text[digit]);
	return value;
}

static size_t put_utf8(char *out, unsigned point)
{
	if (point < 0x80) {
		out[0] = (char)point;
		return 1;
	}
	if (point < 0x800) {
		out[0] = (char)(0xc0 | point >> 6);
		out[1] = (char)(0x80 | (point & 0x3f));
		return 2;
	}
	if (point < 0x10000) {
		out[0] = (char)(0xe0 | point >> 12);
		out[1] = (char)(0x80 | (point >> 6 & 0x3f));
		out[2] = (char)(0x80 | (point & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | point >> 18);
	out[1] = (char)(0x80 | (point >> 12 & 0x3f));
	out[2] = (char)(0x80 | (point >> 6 & 0x3f));
	out[3] = (char)(0x80 | (point & 0x3f));
	return 4;
}

/* Decodes the content of a string that has been read; never longer than what it is made of. */
static size_t decode_string(const char *text, size_t length, char *out)
{
	size_t size = 0;

	for (size_t at = 0; at < length; at += 1) {
		if (text[at] != '\\') {
			out[size++] = text[at];
			continue;
		}
		at += 1;
		switch (text[at]) {
		case 'b': out[size++] = '\b'; break;
		case 'f': out[size++] = '\f'; break;
		case 'n': out[size++] = '\n'; break;
		case 'r': out[size++] = '\r'; break;
		case 't': out[size++] = '\t'; break;
		case 'u': {
			unsigned point = read_hex4(text + at + 1);
			at += 4;
			if (point >= 0xd800 && point < 0xdc00 && at + 6 < length && text[at + 1] == '\\' && text[at + 2] == 'u') {
				unsigned low = read_hex4(text + at + 3);
				if (low >= 0xdc00 && low < 0xe000) {
					point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
					at += 6;
				}
			}
			/* Half a pair is no character. */
			if (point >= 0xd800 && point < 0xe000)
				point = 0xfffd;
			size += put_utf8(out + size, point);
			break;
		}
		default: out[size++] = text[at];
		}
	}
	return size;
}

static bool is_key(const char *key, size_t length, const char *name)
{
	if (length != strlen(name))
		return false;
	for (size_t at = 0; at < length; at += 1) {
		char a = key[at] >= 'A' && key[at] <= 'Z' ? (char)(key[at] + 32) : key[at];
		char b = name[at] >= 'A' && name[at] <= 'Z' ? (char)(name[at] + 32) : name[at];
		if (a != b)
			return false;
	}
	return true;
}

/* Which field a key of the current object stands for; SCAN_FIELDS for none. Keeps whether it is "ipam". */
static int field_of(struct reader *r, size_t from, size_t to, enum scan_field *field)
{
	bool is_top = r->depth == 1;

	*field = SCAN_FIELDS;
	if (!is_top && !(r->depth == 2 && r->in_ipam))
		return 0;
	char *key = malloc(to - from + 1);
	if (key == NULL)
		return fail(r, "out of memory");
	size_t length = decode_string(r->text + from, to - from, key);
	if (is_top) {
		r->in_ipam = is_key(key, length, "ipam");
		for (enum scan_field each = SCAN_NAME; each <= SCAN_SOCKET; each += 1)
			if (is_key(key, length, names[each]))
				*field = each;
	} else if (is_key(key, length, names[SCAN_SOCKET])) {
		*field = SCAN_IPAM_SOCKET;
	}
	free(key);
	return 0;
}

static int keep(struct reader *r, enum scan_field field, size_t from, size_t to)
{
	char *text = malloc(to - from + 1);

	if (text == NULL)
		return fail(r, "out of memory");
	size_t length = decode_string(r->text + from, to - from, text);
	text[length] = '\0';
	free(r->scan->text[field]);
	r->scan->text[field] = text;
	r->scan->length[field] = length;
	return 0;
}

static int read_word(struct reader *r, const char *word)
{
	for (; *word != '\0'; word += 1, r->at += 1)
		if (peek(r) != *word)
			return fail(r, peek(r) < 0 ? "unexpected end of JSON input" : "invalid character");
	return 0;
}

static int read_digits(struct reader *r)
{
	int c = peek(r);

	if (c < '0' || c > '9')
		return fail(r, c < 0 ? "unexpected end of JSON input" : "invalid character in a number");
	while ((c = peek(r)) >= '0' && c <= '9')
		r->at += 1;
	return 0;
}

static int read_number(struct reader *r)
{
	if (peek(r) == '-')
		r->at += 1;
	if (peek(r) == '0')
		r->at += 1;
	else if (read_digits(r) < 0)
		return -1;
	if (peek(r) == '.') {
		r->at += 1;
		if (read_digits(r) < 0)
			return -1;
	}
	if (peek(r) == 'e' || peek(r) == 'E') {
		r->at += 1;
		if (peek(r) == '+' || peek(r) == '-')
			r->at += 1;
		return read_digits(r);
	}
	return 0;
}

/* Reads a key and its colon, and says which field its value is. */
static int read_key(struct reader *r, enum scan_field *field)
{
	size_t from, to;

	skip_space(r);
	if (peek(r) != '"')
		return fail(r, peek(r) < 0 ? "unexpected end of JSON input" : "invalid character where a key belongs");
	if (read_string(r, &from, &to) < 0 || field_of(r, from, to, field) < 0)
		return -1;
	skip_space(r);
	if (peek(r) != ':')
		return fail(r, peek(r) < 0 ? "unexpected end of JSON input" : "invalid character after a key");
	r->at += 1;
	return 0;
}

/* Reads a value that holds no others; whether it opened one that does. */
static int read_value(struct reader *r, enum scan_field field, bool *opened)
{
	size_t from, to;
	int c;

	*opened = false;
	skip_space(r);
	c = peek(r);
	if (field != SCAN_FIELDS && c >= 0 && c != '"' && c != 'n' && r->scan->mistyped == SCAN_FIELDS)
		r->scan->mistyped = field;
	switch (c) {
	case -1: return fail(r, "unexpected end of JSON input");
	case '"':
		if (read_string(r, &from, &to) < 0)
			return -1;
		return field == SCAN_FIELDS ? 0 : keep(r, field, from, to);
	case 't': return read_word(r, "true");
	case 'f': return read_word(r, "false");
	case 'n': return read_word(r, "null");
	case '{':
	case '[':
		if (r->depth == SCAN_MAX_DEPTH)
			return fail(r, "too many levels");
		if (r->depth == 0 && c == '[')
			return fail(r, "an array where an object belongs");
		r->is_object[r->depth++] = c == '{';
		r->at += 1;
		*opened = true;
		return 0;
	default:
		if (c != '-' && (c < '0' || c > '9'))
			return fail(r, "invalid character");
		return read_number(r);
	}
}

int scan_json(const char *text, size_t length, struct scan *scan)
{
	struct reader r = { .text = text, .length = length, .scan = scan };
	enum scan_field field = SCAN_FIELDS;
	bool opened;

	memset(scan, 0, sizeof(*scan));
	scan->mistyped = SCAN_FIELDS;
	skip_space(&r);
	if (peek(&r) >= 0 && strchr("{[n", peek(&r)) == NULL)
		return fail(&r, "no object");
	if (read_value(&r, field, &opened) < 0)
		return -1;
	while (r.depth > 0) {
		char close = r.is_object[r.depth - 1] ? '}' : ']';
		skip_space(&r);
		if (peek(&r) == close) {
			r.at += 1;
			r.depth -= 1;
			opened = false;
			continue;
		}
		if (!opened) {
			if (peek(&r) != ',')
				return fail(&r, peek(&r) < 0 ? "unexpected end of JSON input" : "invalid character after a value");
			r.at += 1;
		}
		field = SCAN_FIELDS;
		if (close == '}' && read_key(&r, &field) < 0)
			return -1;
		/* The keys of an array's members, or of other objects at level 2, are nobody's. */
		if (close == ']' && r.depth == 1)
			r.in_ipam = false;
		if (read_value(&r, field, &opened) < 0)
			return -1;
	}
	skip_space(&r);
	return r.at == r.length ? 0 : fail(&r, "invalid character after the document");
}

void scan_free(struct scan *scan)
{
	for (int field = 0; field < SCAN_FIELDS; field += 1)
		free(scan->text[field]);
	memset(scan, 0, sizeof(*scan));
}
