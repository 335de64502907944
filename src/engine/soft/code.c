// SPDX-License-Identifier: Apache-2.0
/*
 * Code that changes while others run it.
 *
 * Each vCPU has blocks of its own; what a page's flags say is common.  PAGE_CODE: some vCPU
 * may have code of the page, so it is entered into no write table, and each store to it is
 * followed by code_written().  That drops the writer's own blocks, and puts those of the
 * others on their lists (ATTN_ENGINE); they see to it before they look for a block again.
 *
 * The store comes first and the news second, both before the writer's next instruction.  So
 * who has seen anything that the writer did after its store, and then executes a
 * serializing instruction, has the news; and a block made after the news is made from the
 * new bytes.  That is what the manual promises of cross-modifying code.
 *
 * When a vCPU makes the first block of a page, others may have it in their write tables, and
 * one may be in the middle of a store.  Nobody waits for them: they are asked to drop the
 * entry, and until all have answered the page is unsettled.  Blocks are made from a copy of
 * it, which is compared with the page at each serializing instruction, and once more when
 * all have answered.  A vCPU that does not run counts as having answered, because it sees
 * to its list before it runs.
 *
 * The translator must leave for, or poll at, every serializing instruction: IRET, CPUID,
 * MOV to control and debug registers, WRMSR, INVLPG, LGDT and their like.
 *
 * Source: Intel SDM volume 3, "Handling Self- and Cross-Modifying Code".
 */
#include "cpu/mmu.h"
#include "engine/soft/soft_priv.h"

#include <errno.h>
#include <sys/mman.h>

#define NEAR_STORE	16	/* bytes between stores that go on where others ended; */
#define STORES_IN_ROW	16	/* so many of them: somebody fills the page */
#define UNSETTLED_BYTES	(UNSETTLED_MAX * sizeof(struct unsettled))

int code_init(struct soft_vcpu *sv, struct err *e)
{
	void *p = mmap(NULL, UNSETTLED_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return err_errno(e, errno, "out of memory for processor %u", sv->v->index);
	sv->news.unsettled = p;
	for (unsigned int i = 0; i < UNSETTLED_MAX; i++)
		sv->news.unsettled[i].page = GPA_NONE;
	return 0;
}

void code_destroy(struct soft_vcpu *sv)
{
	if (sv->news.unsettled)
		munmap(sv->news.unsettled, UNSETTLED_BYTES);
	sv->news.unsettled = NULL;
}

static uint8_t *flags_of(const struct ram_extent *x, gpa_t page)
{
	return &x->page_flags[(page - x->base) >> GUEST_PAGE_SHIFT];
}

static _Atomic bool *lock_of(struct soft *s, gpa_t page)
{
	return &s->page_lock[(page >> GUEST_PAGE_SHIFT) % PAGE_LOCKS];
}

/* Not by v->wake(): who sleeps may go on. */
static void notify(struct soft_vcpu *sv)
{
	atomic_fetch_or(&sv->v->attention, ATTN_ENGINE);
	vcpu_disturb(sv->v);
	if (sv->direct)
		direct_kick(sv->direct);
}

/* --- stores --- */

static bool is_reading_locked(const struct soft_vcpu *sv, gpa_t page)
{
	for (unsigned int i = 0; i < sv->news.reading_count; i++)
		if (sv->news.reading[i] == page)
			return true;
	return false;
}

static struct unsettled *find_unsettled(const struct soft_vcpu *sv, gpa_t page)
{
	for (unsigned int i = 0; i < UNSETTLED_MAX; i++)
		if (sv->news.unsettled[i].page == page)
			return &sv->news.unsettled[i];
	return NULL;
}

/* Does a store to the page concern @sv? */
static bool holds_locked(const struct soft_vcpu *sv, gpa_t page)
{
	const struct code_page *p = page_find_locked(sv, page);

	return (p && p->chunks) || is_reading_locked(sv, page) ||
	       (sv->news.unsettled_count && find_unsettled(sv, page));
}

static bool ask_locked(struct soft_vcpu *sv, struct code_page *p, uint64_t chunks)
{
	bool more = chunks & ~p->asked;

	if (!p->asked) {
		p->asked_next = sv->news.asked;
		sv->news.asked = p;
	}
	p->asked |= chunks;
	return more;
}

/*
 * Somebody fills the page: its stores go on about where the last ones ended.  Then it is
 * data until code of it is to run again.
 */
static bool fills(struct code_page *p, unsigned int first, unsigned int last)
{
	unsigned int end = p->stored_to;

	if (first + NEAR_STORE < end || first > end + NEAR_STORE) {
		p->in_row = 0;
		p->stored_to = last + 1;
	} else if (last >= end) {
		p->in_row++;
		p->stored_to = last + 1;
	}
	if (p->in_row < STORES_IN_ROW)
		return false;
	p->in_row = 0;
	return true;
}

/* Bytes @first to @last of the page were written; false: @sv has no interest in the page. */
static bool tell(struct soft_vcpu *sv, bool own, gpa_t page, unsigned int first,
		 unsigned int last)
{
	struct code_page *p;
	bool held, news = false;

	soft_lock(&sv->lock);
	held = holds_locked(sv, page);
	if (is_reading_locked(sv, page))
		sv->news.read_hit = true;
	p = page_find_locked(sv, page);
	if (p && page_covers(p, first, last)) {
		if (own)
			page_drop_locked(sv, p, first, last);
		else
			news = ask_locked(sv, p, chunk_mask(first, last));
	}
	if (p && own && p->chunks && fills(p, first, last)) {
		page_suspend_locked(sv, p);
		held = holds_locked(sv, page);
	}
	soft_unlock(&sv->lock);
	if (news)
		notify(sv);
	return held;
}

/* The page is data again, unless somebody has code of it after all. */
static void forget(struct soft *s, gpa_t page)
{
	struct ram_extent *x = gpa_to_extent(s->space, page);
	bool held = false;

	soft_lock(lock_of(s, page));
	for (unsigned int i = 0; i < SOFT_VCPUS && !held; i++) {
		struct soft_vcpu *sv = s->vcpu[i];

		if (!sv)
			continue;
		soft_lock(&sv->lock);
		held = holds_locked(sv, page);
		soft_unlock(&sv->lock);
	}
	if (!held && x)
		__atomic_and_fetch(flags_of(x, page), (uint8_t)~(PAGE_CODE | PAGE_SETTLED),
				   __ATOMIC_SEQ_CST);
	soft_unlock(lock_of(s, page));
}

void code_written(void *arg, void *writer, gpa_t gpa, uint64_t len)
{
	struct soft *s = arg;
	gpa_t end = gpa + len;

	while (gpa < end) {
		gpa_t page = ALIGN_DOWN(gpa, GUEST_PAGE_SIZE);
		gpa_t stop = MIN(end, page + GUEST_PAGE_SIZE);
		unsigned int told = 0;
		bool held = false;

		for (unsigned int i = 0; i < SOFT_VCPUS && told < s->vcpu_count; i++) {
			struct soft_vcpu *sv = s->vcpu[i];

			if (!sv)
				continue;
			held |= tell(sv, sv->v == writer, page, gpa - page, stop - 1 - page);
			told++;
		}
		if (!held)
			forget(s, page);
		gpa = stop;
	}
}

/* --- reading --- */

static void begin_reading(struct soft_vcpu *sv, gpa_t page)
{
	struct code_news *n = &sv->news;

	soft_lock(&sv->lock);
	if (!n->reading_count)
		n->read_hit = false;
	n->reading[n->reading_count++] = page;
	soft_unlock(&sv->lock);
}

void code_close(struct soft_vcpu *sv)
{
	soft_lock(&sv->lock);
	sv->news.reading_count = 0;
	soft_unlock(&sv->lock);
}

/* What differs from the copy was stored without a word: as if it had been told now. */
static void compare(struct soft_vcpu *sv, struct unsettled *u)
{
	struct code_page *p;

	soft_lock(&sv->lock);
	p = page_find_locked(sv, u->page);
	for (unsigned int i = 0; i < ARRAY_SIZE(u->copy); i++) {
		uint64_t now = __atomic_load_n(&u->hva[i], __ATOMIC_RELAXED);

		if (likely(now == u->copy[i]))
			continue;
		u->copy[i] = now;
		if (p && page_covers(p, 8 * i, 8 * i + 7))
			page_drop_locked(sv, p, 8 * i, 8 * i + 7);
	}
	soft_unlock(&sv->lock);
}

static void request_protection(struct soft_vcpu *sv, unsigned int index, struct unsettled *u)
{
	struct code_news *n = &sv->news;

	soft_lock(&sv->lock);
	if (n->protect_count < PROTECT_MAX)
		n->protect[n->protect_count++] = u->page;
	else
		n->protect_count = PROTECT_MAX + 1;
	u->ticket[index] = ++n->requests;
	soft_unlock(&sv->lock);
	u->waiting |= BIT(index);
	notify(sv);
}

/* Takes the page out of everybody's write tables, and a copy. */
static const uint8_t *open_unsettled(struct soft_vcpu *sv, struct ram_extent *x, gpa_t page)
{
	struct unsettled *u = find_unsettled(sv, page);
	struct soft *s = sv->engine;

	if (u) {
		compare(sv, u);
		return (const uint8_t *)u->copy;
	}
	if (sv->news.unsettled_count == UNSETTLED_MAX)
		return NULL;
	u = find_unsettled(sv, GPA_NONE);
	u->hva = (const uint64_t *)(x->hva + (page - x->base));
	u->waiting = 0;
	soft_lock(&sv->lock);
	u->page = page;
	sv->news.unsettled_count++;
	soft_unlock(&sv->lock);
	tlb_protect_code_page(sv->v, page);
	for (unsigned int i = 0; i < SOFT_VCPUS; i++)
		if (s->vcpu[i] && s->vcpu[i] != sv)
			request_protection(s->vcpu[i], i, u);
	for (unsigned int i = 0; i < ARRAY_SIZE(u->copy); i++)
		u->copy[i] = __atomic_load_n(&u->hva[i], __ATOMIC_RELAXED);
	if (sv->dbt)
		dbt_watch(sv->v, true);
	return (const uint8_t *)u->copy;
}

const uint8_t *code_open(struct soft_vcpu *sv, gpa_t page)
{
	struct soft *s = sv->engine;
	struct ram_extent *x = gpa_to_extent(s->space, page);
	const uint8_t *bytes = x->hva + (page - x->base);
	uint8_t *flags = flags_of(x, page);

	soft_lock(lock_of(s, page));
	begin_reading(sv, page);
	if (!(__atomic_load_n(flags, __ATOMIC_SEQ_CST) & PAGE_SETTLED)) {
		if (s->vcpu_count > 1) {
			bytes = open_unsettled(sv, x, page);
		} else {
			tlb_protect_code_page(sv->v, page);
			__atomic_or_fetch(flags, PAGE_SETTLED, __ATOMIC_SEQ_CST);
		}
	}
	soft_unlock(lock_of(s, page));
	return bytes;
}

/* --- answers --- */

static void settle(struct soft_vcpu *sv, struct unsettled *u)
{
	struct soft *s = sv->engine;
	gpa_t page = u->page;
	uint8_t *flags = flags_of(gpa_to_extent(s->space, page), page);

	/* While it is in the list nobody forgets the page: PAGE_CODE is still that of then. */
	soft_lock(lock_of(s, page));
	__atomic_or_fetch(flags, PAGE_SETTLED, __ATOMIC_SEQ_CST);
	soft_lock(&sv->lock);
	u->page = GPA_NONE;
	sv->news.unsettled_count--;
	soft_unlock(&sv->lock);
	soft_unlock(lock_of(s, page));
}

static bool all_answered(const struct soft *s, struct unsettled *u)
{
	for (uint64_t rest = u->waiting; rest; rest &= rest - 1) {
		unsigned int i = __builtin_ctzll(rest);
		const struct code_news *n = &s->vcpu[i]->news;

		/* Both acquire: its stores before that are seen by the comparison after it. */
		if ((int32_t)(atomic_load(&n->answered) - u->ticket[i]) >= 0 ||
		    !atomic_load(&n->running))
			u->waiting &= ~BIT(i);
	}
	return !u->waiting;
}

void code_settle(struct soft_vcpu *sv)
{
	for (unsigned int i = 0; i < UNSETTLED_MAX; i++) {
		struct unsettled *u = &sv->news.unsettled[i];
		bool done;

		if (u->page == GPA_NONE)
			continue;
		done = all_answered(sv->engine, u);
		compare(sv, u);
		if (done)
			settle(sv, u);
	}
	if (sv->dbt && !sv->news.unsettled_count)
		dbt_watch(sv->v, false);
}

/* The code that others have changed. */
static void drop_asked_locked(struct soft_vcpu *sv)
{
	struct code_page *p;

	while ((p = sv->news.asked)) {
		uint64_t chunks = p->asked;

		sv->news.asked = p->asked_next;
		p->asked = 0;
		for (; chunks; chunks &= chunks - 1) {
			unsigned int first = __builtin_ctzll(chunks) * 64;

			page_drop_locked(sv, p, first, first + 63);
		}
	}
}

void code_attend(struct soft_vcpu *sv)
{
	struct code_news *n = &sv->news;
	gpa_t protect[PROTECT_MAX];
	unsigned int count;
	uint32_t requests;

	/* First: what comes in from here on sets it again. */
	atomic_fetch_and(&sv->v->attention, ~(uint32_t)ATTN_ENGINE);
	soft_lock(&sv->lock);
	drop_asked_locked(sv);
	requests = n->requests;
	count = n->protect_count;
	for (unsigned int i = 0; i < MIN(count, PROTECT_MAX); i++)
		protect[i] = n->protect[i];
	n->protect_count = 0;
	soft_unlock(&sv->lock);
	if (count > PROTECT_MAX)
		tlb_flush_all(sv->v);
	else
		for (unsigned int i = 0; i < count; i++)
			tlb_drop_page_writes(sv->v, protect[i]);
	atomic_store(&n->answered, requests);
}

void code_enter(struct soft_vcpu *sv)
{
	/* Before the look at ATTN_ENGINE: who sees us not running has set it already. */
	atomic_store(&sv->news.running, true);
}

void code_leave(struct soft_vcpu *sv)
{
	atomic_store(&sv->news.running, false);
}
