// SPDX-License-Identifier: GPL-2.0
/*
 * Calls on a device that came out of a kexec and is not finished, each with an
 * address at which nothing is mapped: what the driver reads of its caller's
 * memory fails, and the call with it. The device is standard input, the only
 * argument is where in configuration space its Device Control register is.
 * In C, since no safe Rust has such an address. Built by nowhere.sh.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEVICE STDIN_FILENO
#define COMMAND 4

/* Volatile, or the compiler finds us out. */
static void *volatile nowhere = (void *)8;

static void refused(const char *what, long outcome, int expected)
{
	int got = outcome < 0 ? errno : 0;

	if (got == expected)
		return;
	fprintf(stderr, "%s: %s, expected %s\n", what, strerror(got), strerror(expected));
	exit(1);
}

int main(int argc, char **argv)
{
	struct vfio_region_info config = {
		.argsz = sizeof(config),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	off_t control;

	if (argc != 2 || ioctl(DEVICE, VFIO_DEVICE_GET_REGION_INFO, &config)) {
		perror("usage: nowhere DEVICE-CONTROL < a VFIO device");
		return 2;
	}
	control = config.offset + strtoul(argv[1], NULL, 0);
	refused("VFIO_DEVICE_SET_IRQS", ioctl(DEVICE, VFIO_DEVICE_SET_IRQS, nowhere), EFAULT);
	refused("VFIO_DEVICE_FEATURE", ioctl(DEVICE, VFIO_DEVICE_FEATURE, nowhere), EFAULT);
	refused("a write to COMMAND", pwrite(DEVICE, nowhere, 2, config.offset + COMMAND), EFAULT);
	/* What cannot be read may be a reset. */
	refused("a write to Device Control", pwrite(DEVICE, nowhere, 2, control), EBUSY);

	return 0;
}
