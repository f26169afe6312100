/*
 * Runs the scanner over documents from standard input, each behind its length as four bytes (little-endian), and
 * answers each with a line of hexadecimal fields. For the tests, built with the address and undefined sanitizers.
 */
#include "scan.h"

#include <stdio.h>
#include <stdlib.h>

int main(void)
{
	unsigned char head[4];

	while (fread(head, 1, 4, stdin) == 4) {
		size_t length = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
		/* Exactly as long as the document, so that a read past its end is noticed. */
		char *text = malloc(length == 0 ? 1 : length);
		struct scan scan;

		if (text == NULL || fread(text, 1, length, stdin) != length)
			return 1;
		if (scan_json(text, length, &scan) < 0) {
			printf("error\n");
		} else {
			printf("ok %d", scan.mistyped == SCAN_FIELDS ? -1 : (int)scan.mistyped);
			for (int field = 0; field < SCAN_FIELDS; field += 1) {
				printf(scan.text[field] == NULL ? " -" : " .");
				for (size_t at = 0; at < scan.length[field]; at += 1)
					printf("%02x", (unsigned char)scan.text[field][at]);
			}
			printf("\n");
		}
		scan_free(&scan);
		free(text);
	}
	return 0;
}
