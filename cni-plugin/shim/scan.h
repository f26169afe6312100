/*
 * A strict reader of one JSON document (RFC 8259) that keeps a few strings of it: those that decide what the shim
 * says without the agent, and where the agent is. Keys are matched as the reference library does: without regard to
 * the case of ASCII letters, and the last one wins.
 */
#ifndef TSNET_CNI_SCAN_H
#define TSNET_CNI_SCAN_H

#include <stddef.h>

/* Deeper documents are refused: real ones have less than ten levels. */
enum { SCAN_MAX_DEPTH = 256 };

enum scan_field { SCAN_NAME, SCAN_VERSION, SCAN_TYPE, SCAN_SOCKET, SCAN_IPAM_SOCKET, SCAN_FIELDS };

struct scan {
	/* Decoded text, ending in NUL; NULL where the field is absent or null. */
	char *text[SCAN_FIELDS];
	size_t length[SCAN_FIELDS];
	/* What is wrong, and at which byte; NULL where nothing is. */
	const char *error;
	size_t offset;
	/* A field that has to be a string and is not; SCAN_FIELDS where there is none. */
	enum scan_field mistyped;
};

/* Reads a document. 0, or -1 with `error` set. Everything in `scan` is overwritten. */
int scan_json(const char *text, size_t length, struct scan *scan);

/* Gives back what a scan holds. */
void scan_free(struct scan *scan);

/* What a field is called in a document. */
const char *scan_field_name(enum scan_field field);

#endif
