/*
 * table.h - rows of text in aligned columns, for people.
 *
 * Enters: cells, also with text that came from the network. Leaves: lines; columns that hold only numbers
 * are aligned to the right. Bytes that a terminal would act upon are shown as '?'. No colours.
 */
#ifndef WAXSEAL_TABLE_H
#define WAXSEAL_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 16

struct table;

/* The headings, NULL at the end. Aborts without memory, as the whole of table.c does. */
struct table *table_new(const char *const *headings);
void table_text(struct table *table, const char *text); /* the next cell; a row is full when all columns are */
void table_number(struct table *table, uint64_t n);
void table_number_or_blank(struct table *table, uint64_t n); /* 0 is shown as "." */
size_t table_rows(const struct table *table);
void table_print(const struct table *table, FILE *out); /* nothing but the headings if it is empty */
/* Prints the rows so far and forgets them, for lists without end: headings once, columns that never get narrower. */
void table_flush(struct table *table, FILE *out);
void table_free(struct table *table);

/* "3 d 4 h", "12 min", "8 s" */
#define TABLE_AGE_MAX 24
const char *table_age(uint64_t seconds, char out[TABLE_AGE_MAX]);
void table_clean(char *text); /* to '?': control characters, and what is no UTF-8 */

#endif
