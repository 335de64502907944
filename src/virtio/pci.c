// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio over PCI, the modern interface: one BAR with the structures that the capabilities
 * point to, MSI-X with a vector for each queue and one for the configuration, INTx without.
 *
 * Source: VIRTIO 1.2, "Virtio Over PCI Bus".
 * Not modelled: the legacy interface in an I/O BAR, shared memory regions,
 * VIRTIO_F_NOTIFICATION_DATA.
 */
#include "virtio/pci.h"
#include "virtio/core_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VENDOR_VIRTIO		0x1af4
#define DEVICE_MODERN		0x1040	/* and the device type */
#define SUBSYSTEM		0x1100

/* The BAR: one page each. */
#define BAR_REGS		0	/* 64-bit: 0 and 1 */
#define BAR_MSIX		2
#define AT_COMMON		0x0000U
#define AT_ISR			0x1000U
#define AT_DEVICE		0x2000U
#define AT_NOTIFY		0x3000U
#define PART_SIZE		0x1000U
#define REGS_SIZE		0x4000U
#define NOTIFY_STEP		4U
#define COMMON_SIZE		0x40U

#define ISR_QUEUE		1U
#define ISR_CONFIG		2U

/* struct virtio_pci_cap's cfg_type */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5 };

/* struct virtio_pci_common_cfg */
#define DEVICE_FEATURE_SELECT	0x00
#define DEVICE_FEATURE		0x04
#define DRIVER_FEATURE_SELECT	0x08
#define DRIVER_FEATURE		0x0c
#define CONFIG_VECTOR		0x10
#define NUM_QUEUES		0x12
#define DEVICE_STATUS		0x14
#define CONFIG_GENERATION	0x15
#define QUEUE_SELECT		0x16
#define QUEUE_SIZE		0x18
#define QUEUE_VECTOR		0x1a
#define QUEUE_ENABLE		0x1c
#define QUEUE_NOTIFY_OFF	0x1e
#define QUEUE_DESC		0x20
#define QUEUE_DRIVER		0x28
#define QUEUE_DEVICE		0x30
#define QUEUE_NOTIFY_DATA	0x38
#define QUEUE_RESET		0x3a

/* (i) constant; (s) under lock */
struct virtio_pci {
	struct device dev;
	struct pci_function pci;
	struct virtio_device *virtio;	/* (i) */
	struct io_doorbell *doorbells;	/* (i) of all queues */
	unsigned int vectors;		/* (i) */
	unsigned int cfg_cap;		/* (i) where the configuration access capability is */
	pthread_mutex_t lock;
	uint32_t device_select, driver_select;	/* (s) */
	uint16_t queue_select;		/* (s) */
	uint8_t isr;			/* (s) */
};

/* --- interrupts --- */

static void pci_interrupt(void *t, int q, uint16_t vector)
{
	struct virtio_pci *p = t;

	if (pci_msix_enabled(&p->pci)) {
		if (vector != NO_VECTOR)
			pci_msix_send(&p->pci, vector);
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->isr |= q == CONFIG_CHANGED ? ISR_CONFIG : ISR_QUEUE;
	pci_intx(&p->pci, true);
	pthread_mutex_unlock(&p->lock);
}

/* Reading acknowledges. */
static uint8_t read_isr(struct virtio_pci *p)
{
	uint8_t isr;

	pthread_mutex_lock(&p->lock);
	isr = p->isr;
	p->isr = 0;
	pci_intx(&p->pci, false);
	pthread_mutex_unlock(&p->lock);
	return isr;
}

static void pci_transport_reset(void *t)
{
	struct virtio_pci *p = t;

	read_isr(p);
	pthread_mutex_lock(&p->lock);
	p->device_select = p->driver_select = p->queue_select = 0;
	pthread_mutex_unlock(&p->lock);
}

static const struct virtio_transport pci_transport = {
	.interrupt = pci_interrupt,
	.reset = pci_transport_reset,
};

/* --- the common configuration --- */

struct selection {
	uint32_t device, driver;
	uint16_t queue;
};

static struct selection selected(struct virtio_pci *p)
{
	struct selection s;

	pthread_mutex_lock(&p->lock);
	s = (struct selection){ p->device_select, p->driver_select, p->queue_select };
	pthread_mutex_unlock(&p->lock);
	return s;
}

/* Registers of the selected queue; one that is not there has size 0. */
static uint32_t queue_register(struct virtio_pci *p, unsigned int queue, unsigned int reg)
{
	struct virtq *q = virtio_queue_or_null(p->virtio, queue);

	if (!q)
		return reg == QUEUE_VECTOR ? NO_VECTOR : 0;
	switch (reg) {
	case QUEUE_SIZE:
		return virtq_get_size(q);
	case QUEUE_VECTOR:
		return virtq_get_vector(q);
	case QUEUE_ENABLE:
		return virtq_enabled(q);
	case QUEUE_NOTIFY_OFF:
	case QUEUE_NOTIFY_DATA:
		return queue;
	case QUEUE_DESC ... QUEUE_DEVICE + 4:
		return virtq_get_area(q, (reg - QUEUE_DESC) / 8) >> (reg & 4 ? 32 : 0);
	}
	return 0;	/* QUEUE_RESET: done, or never begun */
}

static uint32_t common_register(struct virtio_pci *p, unsigned int reg)
{
	const struct selection s = selected(p);

	switch (reg) {
	case DEVICE_FEATURE_SELECT:
		return s.device;
	case DEVICE_FEATURE:
		return s.device < 2 ? virtio_offered(p->virtio) >> (32 * s.device) : 0;
	case DRIVER_FEATURE_SELECT:
		return s.driver;
	case DRIVER_FEATURE:
		return virtio_driver_features(p->virtio, s.driver);
	case CONFIG_VECTOR:
		return atomic_load(&p->virtio->core->config_vector);
	case NUM_QUEUES:
		return p->virtio->core->queue_count;
	case DEVICE_STATUS:
		return virtio_status(p->virtio);
	case CONFIG_GENERATION:
		return virtio_generation(p->virtio) & 0xff;
	case QUEUE_SELECT:
		return s.queue;
	}
	return queue_register(p, s.queue, reg);
}

/* The register that the byte at @off belongs to. */
static unsigned int register_at(unsigned int off)
{
	if (off == CONFIG_GENERATION)
		return off;
	return off < CONFIG_VECTOR || (off >= QUEUE_DESC && off < QUEUE_NOTIFY_DATA) ? off & ~3U
										     : off & ~1U;
}

static uint64_t common_read(struct virtio_pci *p, unsigned int off, unsigned int size)
{
	uint64_t value = 0;

	/* Byte by byte, for drivers that read two registers at once. */
	for (unsigned int i = 0; i < size && off + i < COMMON_SIZE; ) {
		unsigned int reg = register_at(off + i), within = off + i - reg;
		unsigned int width = off + i == DEVICE_STATUS || reg == CONFIG_GENERATION ? 1 :
				     reg < CONFIG_VECTOR || (reg >= QUEUE_DESC && reg < QUEUE_NOTIFY_DATA)
				     ? 4 : 2;

		value |= ((uint64_t)(common_register(p, reg) >> (8 * within)) &
			  (BIT(8 * (width - within)) - 1)) << (8 * i);
		i += width - within;
	}
	return value;
}

static void write_queue_register(struct virtio_pci *p, unsigned int reg, uint32_t value)
{
	struct virtq *q = virtio_queue_or_null(p->virtio, selected(p).queue);

	if (!q)
		return;
	switch (reg) {
	case QUEUE_SIZE:
		virtq_set_size(q, value);
		break;
	case QUEUE_VECTOR:
		virtq_set_vector(q, value < p->vectors ? value : NO_VECTOR);
		break;
	case QUEUE_ENABLE:
		if (value == 1)
			virtq_enable(q);
		break;
	case QUEUE_RESET:
		if (value == 1)
			virtq_driver_reset(q);
		break;
	case QUEUE_DESC ... QUEUE_DEVICE + 4:
		virtq_set_area(q, (reg - QUEUE_DESC) / 8, reg & 4 ? 1 : 0, value);
		break;
	}
}

static void write_selector(struct virtio_pci *p, unsigned int reg, uint32_t value)
{
	pthread_mutex_lock(&p->lock);
	switch (reg) {
	case DEVICE_FEATURE_SELECT:
		p->device_select = value;
		break;
	case DRIVER_FEATURE_SELECT:
		p->driver_select = value;
		break;
	case QUEUE_SELECT:
		p->queue_select = value;
		break;
	}
	pthread_mutex_unlock(&p->lock);
}

/* A write has the width of its register; the halves of addresses count as registers. */
static void common_write(struct virtio_pci *p, unsigned int off, unsigned int size,
			 uint64_t value)
{
	const bool wide = off < CONFIG_VECTOR || (off >= QUEUE_DESC && off < QUEUE_NOTIFY_DATA);

	if (size == 8) {
		common_write(p, off, 4, (uint32_t)value);
		common_write(p, off + 4, 4, value >> 32);
		return;
	}
	if (off % size || size != (off == DEVICE_STATUS ? 1 : wide ? 4 : 2))
		return;
	switch (off) {
	case DEVICE_FEATURE_SELECT:
	case DRIVER_FEATURE_SELECT:
	case QUEUE_SELECT:
		write_selector(p, off, value);
		break;
	case DRIVER_FEATURE:
		virtio_set_features(p->virtio, selected(p).driver, value);
		break;
	case CONFIG_VECTOR:
		virtio_set_config_vector(p->virtio, value < p->vectors ? value : NO_VECTOR);
		break;
	case DEVICE_STATUS:
		virtio_set_status(p->virtio, value);
		break;
	default:
		write_queue_register(p, off, value);
	}
}

/* --- the BAR --- */

static uint64_t regs_read(void *dev, uint64_t off, unsigned int size)
{
	struct virtio_pci *p = dev;
	const unsigned int within = off % PART_SIZE;
	uint64_t value = 0;

	switch (off - within) {
	case AT_COMMON:
		return common_read(p, within, size);
	case AT_ISR:
		return within ? 0 : read_isr(p);
	case AT_DEVICE:
		virtio_driver_config_read(p->virtio, within, &value, size);
		return value;
	}
	return 0;
}

static void regs_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct virtio_pci *p = dev;
	const unsigned int within = off % PART_SIZE;

	switch (off - within) {
	case AT_COMMON:
		common_write(p, within, size, value);
		break;
	case AT_DEVICE:
		virtio_driver_config_write(p->virtio, within, &value, size);
		break;
	case AT_NOTIFY:
		virtio_doorbell(p->virtio, within / NOTIFY_STEP);
		break;
	}
}

static unsigned int doorbells(void *dev, const struct io_doorbell **list)
{
	struct virtio_pci *p = dev;

	*list = p->doorbells;
	return p->doorbells ? p->virtio->core->queue_count : 0;
}

static const struct io_ops regs_io = {
	.read = regs_read, .write = regs_write, .doorbells = doorbells,
};

/* --- capabilities --- */

static void add_cap(struct virtio_pci *p, uint8_t type, uint32_t at, uint32_t len)
{
	const unsigned int size = type == CAP_NOTIFY || type == CAP_PCI ? 20 : 16;
	const uint32_t writable = type == CAP_PCI ? UINT32_MAX : 0;
	const unsigned int cap = pci_add_capability(&p->pci, PCI_CAP_VENDOR, size);

	pci_set_config(&p->pci, cap + 2, 1, size, 0);
	pci_set_config(&p->pci, cap + 3, 1, type, 0);
	pci_set_config(&p->pci, cap + 4, 1, BAR_REGS, writable);
	pci_set_config(&p->pci, cap + 8, 4, at, writable);
	pci_set_config(&p->pci, cap + 12, 4, len, writable);
	if (type == CAP_NOTIFY)
		pci_set_config(&p->pci, cap + 16, 4, NOTIFY_STEP, 0);
	if (type == CAP_PCI)
		p->cfg_cap = cap;
}

/*
 * Where the configuration access capability points: an aligned piece of 1, 2 or 4 bytes in the
 * BAR.  False: it points nowhere.
 */
static bool window(struct virtio_pci *p, uint32_t *at, uint32_t *len)
{
	const struct pci_function_ops *ops = &pci_config_ops;
	const uint32_t bar = ops->config_read(&p->pci, p->cfg_cap + 4, 1);

	*at = ops->config_read(&p->pci, p->cfg_cap + 8, 4);
	*len = ops->config_read(&p->pci, p->cfg_cap + 12, 4);
	return bar == BAR_REGS && (*len == 1 || *len == 2 || *len == 4) && !(*at % *len) &&
	       *at < REGS_SIZE;
}

static uint32_t window_read(void *arg, unsigned int off, unsigned int size)
{
	struct virtio_pci *p = arg;
	uint32_t at, len;

	(void)size;
	if (off != p->cfg_cap + 16 || !window(p, &at, &len))
		return 0;
	return regs_read(p, at, len);
}

static void window_write(void *arg, unsigned int off, unsigned int size, uint32_t value)
{
	struct virtio_pci *p = arg;
	uint32_t at, len;

	(void)size;
	if (off == p->cfg_cap + 16 && window(p, &at, &len))
		regs_write(p, at, len, value);
}

/* --- life --- */

static struct virtio_pci *to_pci(struct device *d)
{
	return container_of(d, struct virtio_pci, dev);
}

static void virtio_pci_reset(struct device *d)
{
	struct virtio_pci *p = to_pci(d);

	virtio_reset(p->virtio);
	pci_function_reset(&p->pci);
}

static void virtio_pci_destroy(struct device *d)
{
	struct virtio_pci *p = to_pci(d);

	/* First nothing of the guest reaches it, then its thread ends, then it goes. */
	pci_unplug(&p->pci);
	virtio_detach(p->virtio);
	pci_function_destroy(&p->pci);
	pthread_mutex_destroy(&p->lock);
	free(p->doorbells);
	free(p);
}

static const struct device_ops virtio_pci_ops = {
	.model = "virtio-pci",
	.version = 1,
	.reset = virtio_pci_reset,
	.destroy = virtio_pci_destroy,
};

static uint32_t class_of(enum virtio_id id)
{
	switch (id) {
	case VIRTIO_ID_NET:
		return 0x020000;	/* Ethernet */
	case VIRTIO_ID_BLOCK:
	case VIRTIO_ID_SCSI:
		return 0x010000;	/* mass storage */
	case VIRTIO_ID_CONSOLE:
	case VIRTIO_ID_VSOCK:
		return 0x078000;	/* communication */
	default:
		return 0xff0000;
	}
}

static void set_up_function(struct virtio_pci *p, const struct pci_wires *w)
{
	const struct pci_ident id = {
		.name = p->virtio->ops->name, .vendor = VENDOR_VIRTIO,
		.device = DEVICE_MODERN + p->virtio->ops->id,
		.subsystem_vendor = VENDOR_VIRTIO, .subsystem = SUBSYSTEM,
		.class_code = class_of(p->virtio->ops->id), .revision = 1,
	};

	pci_function_init(&p->pci, &id, w);
	pci_add_bar(&p->pci, BAR_REGS, PCI_BAR_MEM64, REGS_SIZE, &regs_io, p);
	add_cap(p, CAP_COMMON, AT_COMMON, COMMON_SIZE);
	add_cap(p, CAP_ISR, AT_ISR, 1);
	add_cap(p, CAP_DEVICE, AT_DEVICE, PART_SIZE);
	add_cap(p, CAP_NOTIFY, AT_NOTIFY, NOTIFY_STEP * p->virtio->core->queue_count);
	add_cap(p, CAP_PCI, 0, 0);
	pci_set_hook(&p->pci, &(struct pci_config_hook){
		.off = p->cfg_cap + 16, .len = 4, .read = window_read, .write = window_write,
		.arg = p,
	});
}

int virtio_pci_create(struct device **out, struct virtio_device *d, struct device *host,
		      unsigned int devfn, const struct pci_wires *w, struct err *e)
{
	struct virtio_pci *p = calloc(1, sizeof(*p));
	int rc;

	if (!p) {
		d->ops->destroy(d);
		return err_set(e, ENOMEM, "out of memory for a virtio device");
	}
	p->dev.ops = &virtio_pci_ops;
	p->virtio = d;
	p->vectors = d->core->queue_count + 1;
	pthread_mutex_init(&p->lock, NULL);
	set_up_function(p, w);
	rc = pci_add_msix(&p->pci, BAR_MSIX, p->vectors, e);
	if (!rc)
		rc = virtio_attach(d, &pci_transport, p, e);
	if (!rc)
		p->doorbells = virtio_doorbells(d, AT_NOTIFY, NOTIFY_STEP);
	if (!rc)
		rc = pci_plug(host, devfn, &p->pci, e);
	if (rc) {
		virtio_pci_destroy(&p->dev);
		return rc;
	}
	*out = &p->dev;
	return 0;
}
