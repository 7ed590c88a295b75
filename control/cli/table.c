/*
 * table.c - keeps the cells, then knows the widths, then prints.
 *
 * A cell is its own copy. What is not ASCII is passed as it is, counted by code point, so that names in
 * UTF-8 stay readable and nearly aligned.
 */
#include "table.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../policy/must.h"
#include "../policy/text.h"

struct table {
	size_t columns, cells, cells_max;
	const char *headings[TABLE_COLUMNS_MAX];
	char **cell;
	/* table_flush(): */
	bool begun, right[TABLE_COLUMNS_MAX];
	size_t widths[TABLE_COLUMNS_MAX];
};

struct table *table_new(const char *const *headings)
{
	struct table *table = must(calloc(1, sizeof(*table)));

	while (table->columns < TABLE_COLUMNS_MAX && headings[table->columns]) {
		table->headings[table->columns] = headings[table->columns];
		table->columns++;
	}
	return table;
}

void table_clean(char *text)
{
	while (*text) {
		size_t len = text_character(text);

		if (len)
			text += len;
		else
			*text++ = '?';
	}
}

void table_text(struct table *table, const char *text)
{
	if (table->cells == table->cells_max) {
		table->cells_max = table->cells_max ? table->cells_max * 2 : 64;
		table->cell = must(realloc(table->cell, table->cells_max * sizeof(*table->cell)));
	}
	char *copy = must(strdup(text && *text ? text : "-"));
	table_clean(copy);
	table->cell[table->cells++] = copy;
}

void table_number(struct table *table, uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, n);
	table_text(table, text);
}

void table_number_or_blank(struct table *table, uint64_t n)
{
	if (n)
		table_number(table, n);
	else
		table_text(table, ".");
}

size_t table_rows(const struct table *table) { return table->cells / table->columns; }

static size_t width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static bool is_number(const char *text) { return !strcmp(text, ".") || strspn(text, "0123456789") == strlen(text); }

static void print_cell(FILE *out, const char *text, size_t columns, bool right, bool last)
{
	size_t pad = columns - width(text);

	if (right)
		fprintf(out, "%*s", (int)pad, "");
	fputs(text, out);
	if (last)
		fputc('\n', out);
	else
		fprintf(out, "%*s", (int)(right ? 2 : pad + 2), "");
}

/* Widens the columns for the rows; of the first ones also says which columns are of numbers. */
static void measure(const struct table *table, size_t widths[TABLE_COLUMNS_MAX], bool right[TABLE_COLUMNS_MAX])
{
	size_t rows = table_rows(table);

	for (size_t c = 0; c < table->columns; c++) {
		bool numbers = rows > 0;
		for (size_t r = 0; r < rows; r++) {
			const char *text = table->cell[r * table->columns + c];
			widths[c] = width(text) > widths[c] ? width(text) : widths[c];
			numbers &= is_number(text);
		}
		if (!table->begun)
			right[c] = numbers;
	}
}

static void print_headings(const struct table *table, const size_t widths[], const bool right[], FILE *out)
{
	for (size_t c = 0; c < table->columns; c++)
		print_cell(out, table->headings[c], widths[c], right[c], c + 1 == table->columns);
}

static void print_rows(const struct table *table, const size_t widths[], const bool right[], FILE *out)
{
	for (size_t i = 0; i < table_rows(table) * table->columns; i++) {
		size_t c = i % table->columns;
		print_cell(out, table->cell[i], widths[c], right[c], c + 1 == table->columns);
	}
}

static void widths_of_headings(const struct table *table, size_t widths[TABLE_COLUMNS_MAX])
{
	for (size_t c = 0; c < table->columns; c++)
		widths[c] = width(table->headings[c]);
}

void table_print(const struct table *table, FILE *out)
{
	size_t widths[TABLE_COLUMNS_MAX];
	bool right[TABLE_COLUMNS_MAX];

	widths_of_headings(table, widths);
	measure(table, widths, right);
	print_headings(table, widths, right, out);
	print_rows(table, widths, right, out);
}

static void forget_rows(struct table *table)
{
	for (size_t i = 0; i < table->cells; i++)
		free(table->cell[i]);
	table->cells = 0;
}

void table_flush(struct table *table, FILE *out)
{
	if (!table->begun)
		widths_of_headings(table, table->widths);
	measure(table, table->widths, table->right);
	if (!table->begun)
		print_headings(table, table->widths, table->right, out);
	table->begun = true;
	print_rows(table, table->widths, table->right, out);
	forget_rows(table);
}

void table_free(struct table *table)
{
	if (!table)
		return;
	forget_rows(table);
	free(table->cell);
	free(table);
}

const char *table_age(uint64_t seconds, char out[TABLE_AGE_MAX])
{
	if (seconds < 120)
		snprintf(out, TABLE_AGE_MAX, "%" PRIu64 " s", seconds);
	else if (seconds < 7200)
		snprintf(out, TABLE_AGE_MAX, "%" PRIu64 " min", seconds / 60);
	else if (seconds < 172800)
		snprintf(out, TABLE_AGE_MAX, "%" PRIu64 " h", seconds / 3600);
	else
		snprintf(out, TABLE_AGE_MAX, "%" PRIu64 " d", seconds / 86400);
	return out;
}
