/* port/name.c: kinds of ports, what is refused, EAL arguments. */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <string.h>
#include <cmocka.h>

#include "port/private.h"

static char error[PORT_ERROR_MAX];

static int check(const char *inside, const char *outside)
{
	const char *const names[PORTS] = {inside, outside};
	error[0] = '\0';
	return port_check_names(names, error, sizeof(error));
}

static void kinds_are_told_by_the_name(void **state)
{
	(void)state;
	assert_int_equal(port_kind("eth1"), PORT_NETDEV);
	assert_int_equal(port_kind("enp3s0f1"), PORT_NETDEV);
	assert_int_equal(port_kind("0000:03:00.1"), PORT_PCI);
	assert_int_equal(port_kind("03:00.1"), PORT_PCI);
	assert_int_equal(port_kind("0000:03:00.1x"), PORT_NETDEV);
	assert_int_equal(port_kind("vdev:net_tap0,iface=x"), PORT_VDEV);
}

static void sound_pairs_are_taken(void **state)
{
	(void)state;
	assert_int_equal(check("eth0", "eth1"), 0);
	assert_int_equal(check("0000:03:00.0", "0000:03:00.1"), 0);
	assert_int_equal(check("vdev:net_tap0,iface=a", "vdev:net_tap1,iface=b"), 0);
}

static void kinds_are_not_mixed(void **state)
{
	(void)state;
	assert_int_equal(check("eth0", "0000:03:00.1"), -EINVAL);
	assert_non_null(strstr(error, "inside = eth0"));
	assert_non_null(strstr(error, "one kind"));
	assert_int_equal(check("vdev:net_tap0", "eth0"), -EINVAL);
	assert_int_equal(check("vdev:net_tap0", "0000:03:00.1"), -EINVAL);
}

static void one_device_is_not_two_ports(void **state)
{
	(void)state;
	assert_int_equal(check("eth0", "eth0"), -EINVAL);
	assert_non_null(strstr(error, "one device"));
	assert_int_equal(check("03:00.1", "0000:03:00.1"), -EINVAL);
	assert_int_equal(check("vdev:net_tap0,iface=a", "vdev:net_tap0,iface=b"), -EINVAL);
	assert_int_equal(check("vdev:net_af_packet0,iface=a", "vdev:net_af_packet1,iface=a"), -EINVAL);
}

static void names_that_cannot_be_are_named(void **state)
{
	static const char *const bad[] = {"", "a/b", "..", "a b", "a:1", "a,b", "sixteen_letters_", "vdev:crypto_null0", "vdev:"};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(check("eth0", bad[i]), -EINVAL);
		assert_non_null(strstr(error, "outside ="));
	}
}

static void a_name_that_is_too_long_is_refused_whole(void **state)
{
	char name[2048];
	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	memcpy(name, "vdev:net_tap0,", 14);
	assert_int_equal(check(name, "vdev:net_tap1"), -EINVAL);
	memcpy(name, "vdev:net_", 9); /* and no comma: the device's name itself */
	name[13] = 'x';
	assert_int_equal(check(name, "vdev:net_tap1"), -EINVAL);
	assert_true(strlen(error) < PORT_ERROR_MAX);
}

static void devices_and_the_netdevs_under_them(void **state)
{
	char device[PORT_DEVICE_MAX], netdev[IFNAMSIZ];
	(void)state;
	port_device("eth1", OUTSIDE, device, netdev);
	assert_string_equal(device, "net_af_xdp1");
	assert_string_equal(netdev, "eth1");
	port_device("03:00.1", INSIDE, device, netdev);
	assert_string_equal(device, "0000:03:00.1");
	assert_string_equal(netdev, "");
	port_device("vdev:net_af_packet0,qpairs=1,iface=in0,blocksz=4096", INSIDE, device, netdev);
	assert_string_equal(device, "net_af_packet0");
	assert_string_equal(netdev, "in0");
	port_device("vdev:net_tap0,iface=made_later", INSIDE, device, netdev);
	assert_string_equal(device, "net_tap0");
	assert_string_equal(netdev, "");
	port_device("vdev:net_af_packet0,iface=longer_than_any_netdev", INSIDE, device, netdev);
	assert_string_equal(netdev, "");
}

static void eal_arguments(void **state)
{
	char *argv[6];
	(void)state;
	assert_int_equal(port_eal_device("eth1", INSIDE, 3, "dir/x.o", argv, 1, 6), 3);
	assert_string_equal(argv[1], "--vdev");
	assert_string_equal(argv[2], "net_af_xdp0,iface=eth1,start_queue=0,queue_count=3,busy_budget=0,xdp_prog=dir/x.o");
	assert_int_equal(port_eal_device("0000:03:00.1", OUTSIDE, 1, "", argv, 3, 6), 5);
	assert_string_equal(argv[3], "-a");
	assert_string_equal(argv[4], "0000:03:00.1");
	assert_string_equal(argv[2] + strlen(argv[2]) - strlen("dir/x.o"), "dir/x.o"); /* each side has a place of its own */
	assert_int_equal(port_eal_device("vdev:net_tap0,iface=x", INSIDE, 1, "", argv, 5, 6), -E2BIG);
	assert_int_equal(port_eal_device("vdev:net_tap0,iface=x", INSIDE, 1, "", argv, 4, 6), 6);
	assert_string_equal(argv[5], "net_tap0,iface=x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds_are_told_by_the_name), cmocka_unit_test(sound_pairs_are_taken),
		cmocka_unit_test(kinds_are_not_mixed), cmocka_unit_test(one_device_is_not_two_ports),
		cmocka_unit_test(names_that_cannot_be_are_named), cmocka_unit_test(a_name_that_is_too_long_is_refused_whole),
		cmocka_unit_test(devices_and_the_netdevs_under_them), cmocka_unit_test(eal_arguments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
