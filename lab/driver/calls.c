// SPDX-License-Identifier: GPL-2.0
/*
 * Calls on a VFIO device, standard input, that the trial has no other way to make:
 *
 *   nowhere OFFSET  on a device that came out of a kexec and is not finished, each
 *                   with an address at which nothing is mapped: what the driver
 *                   reads of its caller's memory fails, and the call with it.
 *                   OFFSET is where in configuration space Device Control is.
 *   late            a write to configuration space whose memory does not come; says
 *                   "late" when it waits, and waits until it is killed
 *   hot-reset       VFIO_DEVICE_PCI_HOT_RESET of what this process owns
 *   detach          VFIO_DEVICE_DETACH_IOMMUFD_PT
 *
 * The last two exit with the call's errno. In C, since no safe Rust has such
 * addresses, and the product no use for the calls. Built by calls.sh.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEVICE STDIN_FILENO
#define COMMAND 4
/* Newer than the headers may be. */
#define DETACH _IO(VFIO_TYPE, VFIO_BASE + 20)
#define USAGE 200

struct detach {
	__u32 argsz;
	__u32 flags;
};

/* Volatile, or the compiler finds us out. */
static void *volatile nowhere = (void *)8;
static off_t config;

static void needs(const char *what, long outcome)
{
	if (outcome >= 0)
		return;
	perror(what);
	exit(USAGE);
}

static void refused(const char *what, long outcome, int expected)
{
	int got = outcome < 0 ? errno : 0;

	if (got == expected)
		return;
	fprintf(stderr, "%s: %s, expected %s\n", what, strerror(got), strerror(expected));
	exit(1);
}

static int of_nowhere(off_t control)
{
	refused("VFIO_DEVICE_SET_IRQS", ioctl(DEVICE, VFIO_DEVICE_SET_IRQS, nowhere), EFAULT);
	refused("VFIO_DEVICE_FEATURE", ioctl(DEVICE, VFIO_DEVICE_FEATURE, nowhere), EFAULT);
	refused("a write to COMMAND", pwrite(DEVICE, nowhere, 2, config + COMMAND), EFAULT);
	/* What cannot be read may be a reset. */
	refused("a write to Device Control", pwrite(DEVICE, nowhere, 2, config + control), EBUSY);
	return 0;
}

/* To the vendor's number, which is read-only: it changes nothing, ever. */
static void *writes(void *page)
{
	needs("a late write", pwrite(DEVICE, page, 2, config));
	return NULL;
}

static _Noreturn void late(void)
{
	size_t size = sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register range = {
		.range = { .start = (unsigned long)page, .len = size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	struct uffd_msg fault;
	pthread_t thread;
	int faults;

	needs("mmap", page == MAP_FAILED ? -1 : 0);
	faults = syscall(SYS_userfaultfd, O_CLOEXEC);
	needs("userfaultfd", faults);
	needs("UFFDIO_API", ioctl(faults, UFFDIO_API, &api));
	needs("UFFDIO_REGISTER", ioctl(faults, UFFDIO_REGISTER, &range));
	errno = pthread_create(&thread, NULL, writes, page);
	needs("a thread", errno ? -1 : 0);
	needs("userfaultfd", read(faults, &fault, sizeof(fault)));
	puts("late");
	fflush(stdout);
	for (;;)
		pause();
}

static int hot_reset(void)
{
	/* No groups: what is bound to this device's iommufd. */
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };

	return ioctl(DEVICE, VFIO_DEVICE_PCI_HOT_RESET, &reset) ? errno : 0;
}

static int detach(void)
{
	struct detach detach = { .argsz = sizeof(detach) };

	return ioctl(DEVICE, DETACH, &detach) ? errno : 0;
}

int main(int argc, char **argv)
{
	struct vfio_region_info region = {
		.argsz = sizeof(region),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	const char *call = argc > 1 ? argv[1] : "";

	needs("no VFIO device at standard input", ioctl(DEVICE, VFIO_DEVICE_GET_REGION_INFO, &region) ? -1 : 0);
	config = region.offset;
	if (!strcmp(call, "nowhere") && argc == 3)
		return of_nowhere(strtoul(argv[2], NULL, 0));
	if (!strcmp(call, "late"))
		late();
	if (!strcmp(call, "hot-reset"))
		return hot_reset();
	if (!strcmp(call, "detach"))
		return detach();
	fputs("usage: calls nowhere OFFSET|late|hot-reset|detach < a VFIO device\n", stderr);
	return USAGE;
}
