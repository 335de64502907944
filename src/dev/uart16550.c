// SPDX-License-Identifier: Apache-2.0
/*
 * 16550A UART: FIFOs of 16 bytes, interrupt priorities, receive time-out, loopback,
 * divisor latch.
 *
 * Source: National Semiconductor PC16550D data sheet, "Registers", "FIFO Interrupt Mode
 * Operation"; PC wiring: OUT2 gates the interrupt, a crystal of 1.8432 MHz.
 *
 * Departures, all for the user's good: a transmitted byte leaves at once while the
 * backend takes it.  Received bytes come in bursts that fill the FIFO, each burst at
 * most as often as the line's speed allows.  Bytes that a FIFO reset would throw away
 * arrive again one character time later, or, without a receive interrupt, once that is
 * enabled or RESTART_NS have passed, so that what was typed ahead survives a driver's
 * start, which also throws away what it finds received.  Parity and framing errors do not
 * happen.
 */
#include "dev/uart16550.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UART_HZ		1843200U
#define FIFO_SIZE	16
#define RESTART_NS	50000000	/* longer than a driver's start takes */

enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

#define IER_RDA		0x01
#define IER_THRE	0x02
#define IER_LINE	0x04
#define IER_MODEM	0x08
#define IIR_MODEM	0x00
#define IIR_NONE	0x01
#define IIR_THRE	0x02
#define IIR_RDA		0x04
#define IIR_LINE	0x06
#define IIR_TIMEOUT	0x0c
#define IIR_FIFOS	0xc0
#define FCR_ENABLE	0x01
#define FCR_RX_RESET	0x02
#define FCR_TX_RESET	0x04
#define LCR_STOP2	0x04
#define LCR_PARITY	0x08
#define LCR_EVEN	0x10
#define LCR_DLAB	0x80
#define MCR_DTR		0x01
#define MCR_RTS		0x02
#define MCR_OUT1	0x04
#define MCR_OUT2	0x08
#define MCR_LOOP	0x10
#define LSR_DR		0x01
#define LSR_OE		0x02
#define LSR_BI		0x10
#define LSR_THRE	0x20
#define LSR_TEMT	0x40
#define MSR_DCTS	0x01
#define MSR_DDSR	0x02
#define MSR_TERI	0x04
#define MSR_DDCD	0x08
#define MSR_CTS		0x10
#define MSR_DSR		0x20
#define MSR_RI		0x40
#define MSR_DCD		0x80

/* (i) constant after creation; everything else under lock */
struct uart16550 {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;	/* (i) */
	uint16_t base;			/* (i) */
	struct clock *clock;		/* (i) */
	struct irq_line irq;		/* (i) */
	struct char_backend *backend;	/* (i) */
	uint8_t ier, fcr, lcr, mcr, msr, scr, dll, dlm;
	uint8_t lsr_errors;		/* LSR_OE, LSR_BI: until LSR is read */
	uint8_t rx[FIFO_SIZE], tx[FIFO_SIZE];
	uint8_t rx_count;
	uint8_t rx_again;		/* bytes of rx that arrive again; rx_count is 0 then */
	uint8_t tx_count;		/* bytes that the backend refused */
	bool thre_pending, timeout_pending;
	bool refused;			/* the backend holds input for us */
	uint64_t rx_next;		/* VM ns: the line is free for the next burst */
	struct timer arrival;		/* at rx_next: take input (again) */
	struct timer timeout;		/* four character times without a read */
};

static struct uart16550 *to_uart(struct device *d)
{
	return container_of(d, struct uart16550, dev);
}

static uint64_t char_ns(const struct uart16550 *u)
{
	unsigned int bits = 1 + 5 + (u->lcr & 3) + (u->lcr & LCR_PARITY ? 1 : 0) +
			    (u->lcr & LCR_STOP2 ? 2 : 1);
	unsigned int divisor = u->dll | u->dlm << 8;

	return bits * 16ULL * MAX(divisor, 1U) * NS_PER_SEC / UART_HZ;
}

static unsigned int fifo_size(const struct uart16550 *u)
{
	return u->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned int rx_trigger(const struct uart16550 *u)
{
	static const uint8_t level[4] = { 1, 4, 8, 14 };

	return u->fcr & FCR_ENABLE ? level[u->fcr >> 6] : 1;
}

/* --- interrupts --- */

static uint8_t interrupt_id(const struct uart16550 *u)
{
	if (u->ier & IER_LINE && u->lsr_errors)
		return IIR_LINE;
	if (u->ier & IER_RDA && u->rx_count >= rx_trigger(u))
		return IIR_RDA;
	if (u->ier & IER_RDA && u->timeout_pending)
		return IIR_TIMEOUT;
	if (u->ier & IER_THRE && u->thre_pending)
		return IIR_THRE;
	if (u->ier & IER_MODEM && u->msr & 0x0f)
		return IIR_MODEM;
	return IIR_NONE;
}

/* In loopback the OUT2 pin is inactive whatever MCR says, and the PC's gate closed. */
static void update_irq(struct uart16550 *u)
{
	bool gate = (u->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

	irq_set(&u->irq, gate && interrupt_id(u) != IIR_NONE);
}

/* --- receiving --- */

static void restart_timeout(struct uart16550 *u)
{
	u->timeout_pending = false;
	if (u->fcr & FCR_ENABLE && u->rx_count && u->rx_count < rx_trigger(u))
		timer_set(&u->timeout, clock_now(u->clock) + 4 * char_ns(u));
	else
		timer_cancel(&u->timeout);
}

static void timeout_fired(void *arg)
{
	struct uart16550 *u = arg;

	pthread_mutex_lock(&u->lock);
	if (u->fcr & FCR_ENABLE && u->rx_count)
		u->timeout_pending = true;
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

/* Asks the backend for refused input, now or when the line is free. */
static void want_input(struct uart16550 *u)
{
	if (!u->refused || u->rx_count || u->rx_again || u->mcr & MCR_LOOP)
		return;
	if (clock_now(u->clock) < u->rx_next) {
		timer_set(&u->arrival, u->rx_next);
		return;
	}
	u->refused = false;
	u->backend->ops->input_wanted(u->backend);
}

static void arrival_fired(void *arg)
{
	struct uart16550 *u = arg;

	pthread_mutex_lock(&u->lock);
	if (u->rx_again && !(u->mcr & MCR_LOOP)) {
		u->rx_count = MIN(u->rx_again, fifo_size(u));
		u->rx_again = 0;
		restart_timeout(u);
		update_irq(u);
	}
	want_input(u);
	pthread_mutex_unlock(&u->lock);
}

static size_t uart_receive(void *dev, const uint8_t *buf, size_t len)
{
	struct uart16550 *u = dev;
	uint64_t now;
	size_t n = 0;

	pthread_mutex_lock(&u->lock);
	now = clock_now(u->clock);
	if (!(u->mcr & MCR_LOOP) && !u->rx_count && !u->rx_again && now >= u->rx_next) {
		n = MIN(len, fifo_size(u));
		memcpy(u->rx, buf, n);
		u->rx_count = n;
		u->rx_next = now + n * char_ns(u);
		restart_timeout(u);
		update_irq(u);
	}
	if (n < len) {
		u->refused = true;
		want_input(u);
	}
	pthread_mutex_unlock(&u->lock);
	return n;
}

static void uart_break(void *dev)
{
	struct uart16550 *u = dev;

	pthread_mutex_lock(&u->lock);
	if (!(u->mcr & MCR_LOOP)) {
		/* A break comes with a zero byte. */
		if (u->rx_count < fifo_size(u) && !u->rx_again)
			u->rx[u->rx_count++] = 0;
		u->lsr_errors |= LSR_BI;
		restart_timeout(u);
		update_irq(u);
	}
	pthread_mutex_unlock(&u->lock);
}

static uint8_t read_rbr(struct uart16550 *u)
{
	uint8_t value = u->rx[0];

	if (!u->rx_count)
		return 0;
	u->rx_count--;
	memmove(u->rx, u->rx + 1, u->rx_count);
	restart_timeout(u);
	want_input(u);
	return value;
}

static void arrive_again_in(struct uart16550 *u, uint64_t ns)
{
	u->rx_next = clock_now(u->clock) + ns;
	timer_set(&u->arrival, u->rx_next);
}

/* What the guest has not seen goes back on the line; see the head of the file. */
static void reset_rx(struct uart16550 *u)
{
	if (u->mcr & MCR_LOOP)
		u->rx_count = 0;
	if (u->rx_count) {
		u->rx_again = u->rx_count;
		u->rx_count = 0;
	}
	if (u->rx_again)
		arrive_again_in(u, u->ier & IER_RDA ? char_ns(u) : RESTART_NS);
	restart_timeout(u);
	want_input(u);
}

/* --- transmitting --- */

static void loop_byte(struct uart16550 *u, uint8_t value)
{
	if (u->rx_count == fifo_size(u)) {
		u->lsr_errors |= LSR_OE;
		/* Without FIFOs the new byte overwrites the old one. */
		if (!(u->fcr & FCR_ENABLE))
			u->rx[0] = value;
	} else {
		u->rx_again = 0;
		u->rx[u->rx_count++] = value;
	}
	restart_timeout(u);
}

static void write_thr(struct uart16550 *u, uint8_t value)
{
	u->thre_pending = false;
	if (u->mcr & MCR_LOOP) {
		loop_byte(u, value);
	} else if (u->backend && (u->tx_count ||
				  !u->backend->ops->write(u->backend, &value, 1))) {
		/* A full FIFO takes nothing more: the guest ignored THRE. */
		if (u->tx_count < fifo_size(u))
			u->tx[u->tx_count++] = value;
	}
	u->thre_pending = !u->tx_count;
}

static void uart_writable(void *dev)
{
	struct uart16550 *u = dev;
	size_t n;

	pthread_mutex_lock(&u->lock);
	if (u->tx_count) {
		n = u->backend->ops->write(u->backend, u->tx, u->tx_count);
		u->tx_count -= n;
		memmove(u->tx, u->tx + n, u->tx_count);
		u->thre_pending |= !u->tx_count;
		update_irq(u);
	}
	pthread_mutex_unlock(&u->lock);
}

static const struct char_front_ops uart_front = {
	.receive = uart_receive,
	.writable = uart_writable,
	.line_break = uart_break,
};

/* --- the other registers --- */

static uint8_t modem_lines(const struct uart16550 *u)
{
	if (!(u->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
	       (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void write_mcr(struct uart16550 *u, uint8_t value)
{
	bool was_loop = u->mcr & MCR_LOOP;
	uint8_t lines, changed;

	u->mcr = value & 0x1f;
	lines = modem_lines(u);
	changed = lines ^ u->msr;
	u->msr = lines | (u->msr & 0x0f);
	u->msr |= (changed & MSR_CTS ? MSR_DCTS : 0) | (changed & MSR_DSR ? MSR_DDSR : 0) |
		  (changed & ~lines & MSR_RI ? MSR_TERI : 0) |
		  (changed & MSR_DCD ? MSR_DDCD : 0);
	if (was_loop && !(u->mcr & MCR_LOOP)) {
		if (u->rx_again)
			timer_set(&u->arrival, MAX(u->rx_next, clock_now(u->clock)));
		want_input(u);
	}
}

static void write_fcr(struct uart16550 *u, uint8_t value)
{
	bool toggled = (u->fcr ^ value) & FCR_ENABLE;

	u->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
	if (toggled || value & FCR_RX_RESET)
		reset_rx(u);
	if (toggled || value & FCR_TX_RESET) {
		u->tx_count = 0;
		u->thre_pending = true;
	}
}

static void write_ier(struct uart16550 *u, uint8_t value)
{
	/* Enabling the interrupt of an empty transmitter raises it. */
	if (value & ~u->ier & IER_THRE && !u->tx_count)
		u->thre_pending = true;
	if (value & ~u->ier & IER_RDA && u->rx_again)
		arrive_again_in(u, char_ns(u));
	u->ier = value & 0x0f;
}

static uint8_t read_iir(struct uart16550 *u)
{
	uint8_t id = interrupt_id(u);

	if (id == IIR_THRE)
		u->thre_pending = false;
	return id | (u->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static uint8_t read_lsr(struct uart16550 *u)
{
	uint8_t value = u->lsr_errors | (u->rx_count ? LSR_DR : 0) |
			(u->tx_count ? 0 : LSR_THRE | LSR_TEMT);

	u->lsr_errors = 0;
	return value;
}

static uint8_t read_msr(struct uart16550 *u)
{
	uint8_t value = u->msr;

	u->msr &= 0xf0;
	return value;
}

static uint8_t read_register(struct uart16550 *u, unsigned int reg)
{
	switch (reg) {
	case RBR_THR:
		return u->lcr & LCR_DLAB ? u->dll : read_rbr(u);
	case IER:
		return u->lcr & LCR_DLAB ? u->dlm : u->ier;
	case IIR_FCR:
		return read_iir(u);
	case LCR:
		return u->lcr;
	case MCR:
		return u->mcr;
	case LSR:
		return read_lsr(u);
	case MSR:
		return read_msr(u);
	default:
		return u->scr;
	}
}

/* What the registers say of the line, for a backend that is one. */
static void tell_line(struct uart16550 *u)
{
	const unsigned int divisor = u->dll | u->dlm << 8;
	const struct char_line line = {
		.baud = UART_HZ / 16 / MAX(divisor, 1U), .data_bits = 5 + (u->lcr & 3),
		.stop_bits = u->lcr & LCR_STOP2 ? 2 : 1,
		.parity = !(u->lcr & LCR_PARITY) ? 0 : u->lcr & LCR_EVEN ? 'E' : 'O',
	};

	if (u->backend && u->backend->ops->set_line)
		u->backend->ops->set_line(u->backend, &line);
}

static void write_register(struct uart16550 *u, unsigned int reg, uint8_t value)
{
	switch (reg) {
	case RBR_THR:
		if (u->lcr & LCR_DLAB)
			u->dll = value;
		else
			write_thr(u, value);
		break;
	case IER:
		if (u->lcr & LCR_DLAB)
			u->dlm = value;
		else
			write_ier(u, value);
		break;
	case IIR_FCR:
		write_fcr(u, value);
		break;
	case LCR:
		u->lcr = value;
		if (!(value & LCR_DLAB))
			tell_line(u);
		break;
	case MCR:
		write_mcr(u, value);
		break;
	case SCR:
		u->scr = value;
		break;
	}
}

/* Wider accesses reach an 8-bit chip as one a byte. */
static uint64_t uart_read(void *dev, uint64_t off, unsigned int size)
{
	struct uart16550 *u = dev;
	uint64_t value = 0;

	pthread_mutex_lock(&u->lock);
	for (unsigned int i = 0; i < size; i++)
		value |= (uint64_t)read_register(u, off + i) << (8 * i);
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
	return value;
}

static void uart_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct uart16550 *u = dev;

	pthread_mutex_lock(&u->lock);
	for (unsigned int i = 0; i < size; i++)
		write_register(u, off + i, value >> (8 * i));
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

static const struct io_ops uart_io = { .read = uart_read, .write = uart_write };

/* --- as a device --- */

static void uart_reset(struct device *d)
{
	struct uart16550 *u = to_uart(d);

	pthread_mutex_lock(&u->lock);
	u->ier = u->fcr = u->lcr = u->mcr = u->lsr_errors = 0;
	u->rx_count = u->rx_again = u->tx_count = 0;
	u->thre_pending = u->timeout_pending = false;
	u->msr = modem_lines(u);
	u->dll = 12;	/* 9600 baud, as a PC's firmware leaves it */
	u->dlm = 0;
	u->scr = 0;
	u->rx_next = 0;
	timer_cancel(&u->arrival);
	timer_cancel(&u->timeout);
	update_irq(u);
	want_input(u);
	pthread_mutex_unlock(&u->lock);
}

static void uart_destroy(struct device *d)
{
	struct uart16550 *u = to_uart(d);

	timer_cancel(&u->arrival);
	timer_cancel(&u->timeout);
	gpa_space_remove_pio(u->space, u->base);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

/* Sets what the fields alone do not say: timers and the line. */
static int uart_load_finish(struct device *d, struct err *e)
{
	struct uart16550 *u = to_uart(d);

	if (u->rx_count && u->rx_again)
		return err_set(e, EINVAL, "a UART's record holds received bytes twice");
	pthread_mutex_lock(&u->lock);
	if (!u->timeout_pending)
		restart_timeout(u);
	u->refused = u->backend != NULL;
	if (u->rx_again)
		timer_set(&u->arrival, u->rx_next);
	want_input(u);
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
	return 0;
}

static const struct state_field uart_fields[] = {
	STATE_FIELD(struct uart16550, ier, 0x0f),
	STATE_FIELD(struct uart16550, fcr, 0xc9),
	STATE_FIELD(struct uart16550, lcr, 0xff),
	STATE_FIELD(struct uart16550, mcr, 0x1f),
	STATE_FIELD(struct uart16550, msr, 0xff),
	STATE_FIELD(struct uart16550, scr, 0xff),
	STATE_FIELD(struct uart16550, dll, 0xff),
	STATE_FIELD(struct uart16550, dlm, 0xff),
	STATE_FIELD(struct uart16550, lsr_errors, LSR_OE | LSR_BI),
	STATE_ARRAY(struct uart16550, rx, 0xff),
	STATE_ARRAY(struct uart16550, tx, 0xff),
	STATE_FIELD(struct uart16550, rx_count, FIFO_SIZE),
	STATE_FIELD(struct uart16550, rx_again, FIFO_SIZE),
	STATE_FIELD(struct uart16550, tx_count, FIFO_SIZE),
	STATE_FIELD(struct uart16550, thre_pending, 1),
	STATE_FIELD(struct uart16550, timeout_pending, 1),
	STATE_FIELD(struct uart16550, rx_next, UINT64_MAX),
};

static const struct device_ops uart_ops = {
	.model = "uart16550",
	.version = 1,
	.reset = uart_reset,
	.destroy = uart_destroy,
	.fields = uart_fields,
	.field_count = ARRAY_SIZE(uart_fields),
	.load_finish = uart_load_finish,
};

int uart16550_create(struct device **out, struct gpa_space *s, uint16_t base,
		     struct clock *clock, const struct irq_line *irq, struct err *e)
{
	struct uart16550 *u = calloc(1, sizeof(*u));
	struct io_region region = { "uart16550", base, 8, &uart_io, u };
	int rc;

	if (!u)
		return err_set(e, ENOMEM, "out of memory for a serial port");
	u->dev.ops = &uart_ops;
	u->space = s;
	u->base = base;
	u->clock = clock;
	u->irq = *irq;
	pthread_mutex_init(&u->lock, NULL);
	timer_init(&u->arrival, clock, arrival_fired, u);
	timer_init(&u->timeout, clock, timeout_fired, u);
	rc = gpa_space_add_pio(s, &region, e);
	if (rc) {
		pthread_mutex_destroy(&u->lock);
		free(u);
		return rc;
	}
	uart_reset(&u->dev);
	*out = &u->dev;
	return 0;
}

void uart16550_attach(struct device *uart, struct char_backend *b)
{
	struct uart16550 *u = to_uart(uart);

	u->backend = b;
	if (b)
		char_attach(b, &uart_front, u);
}
