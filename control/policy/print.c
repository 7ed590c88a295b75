/*
 * print.c - a rule as one line, with quotes where rule_parse_line needs them.
 *
 * Enters: a key and attributes. Leaves: one line without its end; a control character is shown as '?'.
 */
#include <string.h>

#include "rules.h"

static void print_value(FILE *out, const char *value)
{
	if (*value && !strpbrk(value, " \t\"\\#")) {
		fputs(value, out);
		return;
	}
	fputc('"', out);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			fputc('\\', out);
		fputc((unsigned char)*value < 0x20 || *value == 0x7f ? '?' : *value, out);
	}
	fputc('"', out);
}

void rule_print(FILE *out, const char *key, const struct rule_field *fields, size_t count)
{
	fputs(key, out);
	for (size_t i = 0; i < count; i++) {
		fprintf(out, " %s=", fields[i].name);
		print_value(out, fields[i].value);
	}
}
