/* control/policy/write.c: the old file or the new one, whole, and nothing left lying about. */
#include "control_harness.h"

#include <dirent.h>
#include <sys/stat.h>

static char folder[] = "/tmp/waxseal-write-XXXXXX";
static char path[64];

static int entries(void)
{
	DIR *dir = opendir(folder);
	int n = 0;

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void content_is(const char *text)
{
	char have[64] = "";
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	assert_int_equal(fread(have, 1, sizeof(have) - 1, file), strlen(text));
	fclose(file);
	assert_string_equal(have, text);
}

static void replaces_whole(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(image_write(path, "first", 5, h_error, sizeof(h_error)), 0);
	content_is("first");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	FILE *reader = fopen(path, "r");
	assert_int_equal(image_write(path, "2nd", 3, h_error, sizeof(h_error)), 0);
	content_is("2nd");
	char old[8] = "";
	assert_int_equal(fread(old, 1, 7, reader), 5); /* who has it open goes on with what it was */
	assert_string_equal(old, "first");
	fclose(reader);
	assert_int_equal(entries(), 1);
}

static void on_error_the_old_one_stays(void **state)
{
	char in_nowhere[80], longest[5000];

	(void)state;
	assert_int_equal(image_write(path, "kept", 4, h_error, sizeof(h_error)), 0);
	snprintf(in_nowhere, sizeof(in_nowhere), "%s/none/policy.image", folder);
	assert_int_equal(image_write(in_nowhere, "x", 1, h_error, sizeof(h_error)), -ENOENT);
	assert_non_null(strstr(h_error, "none/policy.image"));
	assert_int_equal(image_write(folder, "x", 1, h_error, sizeof(h_error)), -EISDIR); /* a folder of that name */
	assert_non_null(strstr(h_error, "rename to"));
	memset(longest, 'a', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(image_write(longest, "x", 1, h_error, sizeof(h_error)), -ENAMETOOLONG);
	content_is("kept");
	assert_int_equal(entries(), 1);
}

static void a_name_without_a_folder(void **state)
{
	char here[256];

	(void)state;
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(image_write("policy.image", "here", 4, h_error, sizeof(h_error)), 0);
	assert_int_equal(chdir(here), 0);
	content_is("here");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(replaces_whole), cmocka_unit_test(on_error_the_old_one_stays),
					   cmocka_unit_test(a_name_without_a_folder)};
	int failed;

	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "%s/policy.image", folder);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(folder);
	return failed;
}
