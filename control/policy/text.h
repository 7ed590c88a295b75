/*
 * text.h - text from outside, made fit for a terminal, a log line and JSON.
 *
 * Enters: bytes that anybody may have put into Redis or into a file. Leaves: UTF-8 without control
 * characters, on one line.
 */
#ifndef WAXSEAL_CONTROL_TEXT_H
#define WAXSEAL_CONTROL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the printable character at `text`; 0 if there is none: a control character, or no UTF-8. */
size_t text_character(const char *text);
bool text_printable(const char *text); /* all of it */
/* Copies with '?' for each byte that is not part of one; what does not fit ends in "...". `out_len` >= 4. */
void text_clean(const char *text, char *out, size_t out_len);
uint64_t text_moment(const char *text); /* "2027-01-31T12:00:00.123Z", as session events have it, in Unix seconds; 0: none */

#endif
