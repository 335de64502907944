// SPDX-License-Identifier: Apache-2.0
/*
 * guestbench - a fixed-work benchmark to run both in a guest and on the host.
 *
 *   guestbench [-s SCALE] [-r REPEAT] all | NAME...
 *   guestbench list
 *
 * Every benchmark does the same work everywhere (SCALE multiplies it), so two
 * runs compare by time alone. Around the timed part it prints, one per line,
 *
 *   BEGIN NAME
 *   END NAME
 *   bench NAME VALUE UNIT t=SECONDS sum=HEX
 *
 * VALUE and SECONDS come from CLOCK_MONOTONIC. A guest's clock can be wrong, so
 * whoever reads the console should time BEGIN..END with its own clock as well.
 * sum is a checksum of what was computed: where it is not 0 it must be the same
 * on every machine, which makes this a (weak) correctness test too.
 * Each benchmark runs in a process of its own, so none depends on what ran
 * before it. One that cannot run here prints "skip NAME REASON", one that fails
 * or is killed prints "fail NAME REASON".
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#define noinline __attribute__((noinline))

/* ---- harness ---- */

static const char *cur;   /* benchmark being run */
static double scale = 1.0;
static struct timespec t_begin;

static void say(const char *fmt, ...)
{
	char buf[256];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(buf, sizeof buf, fmt, ap);
	va_end(ap);
	for (int off = 0; off < n;) {
		ssize_t w = write(1, buf + off, n - off);
		if (w <= 0)
			break;
		off += w;
	}
	tcdrain(1);           /* keep the console's work out of the timed part */
}

static void die(const char *what)
{
	say("fail %s %s: %s\n", cur, what, strerror(errno));
	_exit(1);
}

static u64 scaled(double n)
{
	n *= scale;
	return n < 1 ? 1 : (u64)n;
}

static void begin(void)
{
	say("BEGIN %s\n", cur);
	clock_gettime(CLOCK_MONOTONIC, &t_begin);
}

static double elapsed(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (t.tv_sec - t_begin.tv_sec) + (t.tv_nsec - t_begin.tv_nsec) * 1e-9;
}

/* ops things were done, of which 'per' make one UNIT; the rate is printed */
static void end(double ops, double per, const char *unit, u64 sum)
{
	double s = elapsed();
	say("END %s\n", cur);
	say("bench %s %.4g %s t=%.4f sum=%llx\n", cur, s > 0 ? ops / per / s : 0.0,
		unit, s, (unsigned long long)sum);
}

static void skip(const char *why)
{
	say("skip %s %s\n", cur, why);
}

static u64 rng = 88172645463325252u;
static u64 rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static u64 mix(u64 h, u64 v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15u;
	return h ^ (h >> 29);
}

static u64 mixbuf(const void *p, size_t n)
{
	const u8 *b = p;
	u64 h = n;
	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * 0x100000001b3u;
	return h;
}

static void *pages(size_t n, int prot)
{
	void *p = mmap(NULL, n, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		die("mmap");
	madvise(p, n, MADV_NOHUGEPAGE);
	return p;
}

#define RW (PROT_READ | PROT_WRITE)

/* ---- integer code ---- */

/* A register bytecode machine, running a Collatz search. */
enum { LI, MOV, ADD, ADDI, MULI, ANDI, SHRI, JZ, JLT, JMP, ST, HALT };
struct insn { u8 op, a, b, pad; int32_t imm; };

static noinline u64 interpret(const struct insn *code, u64 *r, u64 *mem)
{
	u64 steps = 0;
	for (const struct insn *p = code;; p++) {
		steps++;
		switch (p->op) {
		case LI:   r[p->a] = p->imm; break;
		case MOV:  r[p->a] = r[p->b]; break;
		case ADD:  r[p->a] += r[p->b]; break;
		case ADDI: r[p->a] += p->imm; break;
		case MULI: r[p->a] *= p->imm; break;
		case ANDI: r[p->a] = r[p->b] & p->imm; break;
		case SHRI: r[p->a] >>= p->imm; break;
		case JZ:   if (!r[p->a]) p += p->imm; break;
		case JLT:  if (r[p->a] < r[p->b]) p += p->imm; break;
		case JMP:  p += p->imm; break;
		case ST:   mem[r[p->a] & 1023] = r[p->b]; break;
		case HALT: return steps;
		}
	}
}

static void b_interp(void)
{
	static const struct insn prog[] = {
		{ LI, 0, 0, 0, 1 },      /*  0  n = 1, r5 = 2            */
		{ LI, 5, 0, 0, 2 },      /*  1                           */
		{ MOV, 1, 0, 0, 0 },     /*  2  next: x = n, steps = 0   */
		{ LI, 2, 0, 0, 0 },      /*  3                           */
		{ JLT, 1, 5, 0, 7 },     /*  4  loop: if x < 2 goto 12   */
		{ ADDI, 2, 0, 0, 1 },    /*  5                           */
		{ ANDI, 3, 1, 0, 1 },    /*  6                           */
		{ JZ, 3, 0, 0, 3 },      /*  7  even: goto 11            */
		{ MULI, 1, 0, 0, 3 },    /*  8                           */
		{ ADDI, 1, 0, 0, 1 },    /*  9                           */
		{ JMP, 0, 0, 0, -7 },    /* 10  goto 4                   */
		{ SHRI, 1, 0, 0, 1 },    /* 11  (falls into 12)          */
		{ JLT, 1, 5, 0, 1 },     /* 12  if x < 2 goto 14         */
		{ JMP, 0, 0, 0, -10 },   /* 13  goto 4                   */
		{ ST, 0, 2, 0, 0 },      /* 14  mem[n] = steps           */
		{ ADD, 6, 2, 0, 0 },     /* 15                           */
		{ ADDI, 0, 0, 0, 1 },    /* 16                           */
		{ JLT, 0, 7, 0, -16 },   /* 17  if n < limit goto 2      */
		{ HALT, 0, 0, 0, 0 },
	};
	static u64 mem[1024];
	u64 r[8] = { 0 };
	r[7] = scaled(220e3);
	begin();
	u64 steps = interpret(prog, r, mem);
	end(steps, 1e6, "Minsn/s", mix(r[6], mixbuf(mem, sizeof mem)));
}

static noinline void quicksort(u32 *a, long n)
{
	while (n > 16) {
		u32 x = a[0], y = a[n / 2], z = a[n - 1];
		u32 p = x < y ? (y < z ? y : x < z ? z : x) : (x < z ? x : y < z ? z : y);
		long i = 0, j = n - 1;
		for (;;) {
			while (a[i] < p) i++;
			while (a[j] > p) j--;
			if (i >= j) break;
			u32 t = a[i]; a[i++] = a[j]; a[j--] = t;
		}
		quicksort(a, i);
		a += i;
		n -= i;
	}
	for (long i = 1; i < n; i++) {
		u32 v = a[i];
		long j = i;
		for (; j > 0 && a[j - 1] > v; j--)
			a[j] = a[j - 1];
		a[j] = v;
	}
}

static void b_sort(void)
{
	enum { N = 1 << 16 };
	static u32 a[N];
	u64 n = scaled(120), sum = 0;
	begin();
	for (u64 k = 0; k < n; k++) {
		for (int i = 0; i < N; i++)
			a[i] = rnd();
		quicksort(a, N);
		for (int i = 1; i < N; i++)
			if (a[i - 1] > a[i])
				die("not sorted");
		sum = mix(sum, a[N / 3]);
	}
	end((double)n * N, 1e6, "Mitem/s", sum);
}

static void b_hash(void)
{
	enum { BITS = 16, SLOTS = 1 << BITS };
	static struct { u64 key, val; } tab[SLOTS];
	u64 n = scaled(80e6), sum = 0, used = 0;
	begin();
	for (u64 i = 0; i < n; i++) {
		u64 key = (rnd() % 50000) + 1;
		u32 h = (key * 0x9e3779b97f4a7c15u) >> (64 - BITS);
		while (tab[h].key && tab[h].key != key)
			h = (h + 1) & (SLOTS - 1);
		if (!tab[h].key) {
			tab[h].key = key;
			used++;
		}
		tab[h].val += i;
		sum += tab[h].val;
	}
	end(n, 1e6, "Mop/s", mix(sum, used));
}

/* words of random letters and decimal numbers */
static size_t make_text(char *p, size_t n)
{
	size_t i = 0;
	while (i + 16 < n) {
		u64 r = rnd();
		if (r % 5 == 0) {
			i += sprintf(p + i, "%u", (u32)(r >> 40));
		} else {
			int len = 2 + (r >> 8) % 7;
			for (int k = 0; k < len; k++)
				p[i++] = "etaoinshrdlucmfw"[(rnd() & rnd()) & 15];
		}
		p[i++] = (r >> 32) % 11 ? ' ' : '\n';
	}
	p[i] = 0;
	return i;
}

static void b_string(void)
{
	enum { N = 1 << 16 };
	static char text[N], up[N];
	size_t len = make_text(text, N);
	u64 n = scaled(2000), sum = 0;
	begin();
	for (u64 k = 0; k < n; k++) {
		u64 words = 0, nums = 0, total = 0, hits = 0;
		char *q = up;
		for (const char *p = text; *p;) {
			while (*p == ' ' || *p == '\n')
				p++;
			if (*p >= '0' && *p <= '9') {
				u64 v = k;
				while (*p >= '0' && *p <= '9')
					v = v * 10 + (*p++ - '0');
				total += v;
				nums++;
				char tmp[24];
				int t = 0;
				do tmp[t++] = '0' + v % 10; while (v /= 10);
				while (t && q < up + N - 1)
					*q++ = tmp[--t];
			} else if (*p) {
				while (*p >= 'a' && *p <= 'z' && q < up + N - 1)
					*q++ = *p++ - 32;
				words++;
			}
		}
		*q = 0;
		for (const char *p = up; *p; p++)
			if (p[0] == 'T' && p[1] == 'E' && p[2] == 'A')
				hits++;
		sum = mix(sum, words + (nums << 20) + (hits << 40) + total);
	}
	end((double)n * len, 1e6, "MB/s", sum);
}

static noinline u64 sieve(u8 *s, u32 n)
{
	u64 count = 0;
	memset(s, 1, n);
	for (u32 i = 2; i < n; i++) {
		if (!s[i])
			continue;
		count++;
		for (u32 j = 2 * i; j < n; j += i)
			s[j] = 0;
	}
	return count;
}

static void b_sieve(void)
{
	enum { N = 1 << 20 };
	static u8 s[N];
	u64 n = scaled(110), sum = 0;
	begin();
	for (u64 k = 0; k < n; k++)
		sum = mix(sum, sieve(s, N - k));
	end((double)n * N, 1e6, "Mnum/s", sum);
}

static const u32 sha_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
	0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
	0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
	0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
	0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
	0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

static u32 ror(u32 x, int n) { return x >> n | x << (32 - n); }

static noinline void sha256_block(u32 h[8], const u8 *p)
{
	u32 w[64], v[8];
	for (int i = 0; i < 16; i++)
		w[i] = (u32)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + w[i - 7] +
			   (ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3) +
			   (ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(v, h, sizeof v);
	/* the eight variables rotate through v[], so eight rounds bring them home */
	for (int i = 0; i < 64; i += 8)
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++) {
			u32 a = v[-k & 7], b = v[(1 - k) & 7], c = v[(2 - k) & 7];
			u32 e = v[(4 - k) & 7], f = v[(5 - k) & 7], g = v[(6 - k) & 7];
			u32 t = v[(7 - k) & 7] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) +
					((e & f) ^ (~e & g)) + sha_k[i + k] + w[i + k];
			v[(3 - k) & 7] += t;
			v[(7 - k) & 7] = t + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) +
							 ((a & b) ^ (a & c) ^ (b & c));
		}
	for (int i = 0; i < 8; i++)
		h[i] += v[i];
}

static void b_sha256(void)
{
	static u8 buf[1 << 16];
	u32 h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
				 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = rnd();
	u64 n = scaled(1800);
	begin();
	for (u64 k = 0; k < n; k++)
		for (size_t i = 0; i < sizeof buf; i += 64)
			sha256_block(h, buf + i);
	end((double)n * sizeof buf, 1e6, "MB/s", mixbuf(h, sizeof h));
}

/* A byte-oriented LZ77: token 0..127 = that many + 1 literals, 128..255 = a
 * match of token - 124 bytes at the 16-bit distance that follows. */
static u32 load32(const u8 *p)
{
	u32 v;
	memcpy(&v, p, 4);
	return v;
}

static noinline size_t lz_pack(const u8 *in, size_t n, u8 *out)
{
	static u32 last[1 << 13];
	u8 *o = out;
	size_t lit = 0, i = 0;
	memset(last, 0xff, sizeof last);
	while (i < n) {
		size_t len = 0, dist = 0;
		if (i + 4 <= n) {
			u32 *slot = &last[load32(in + i) * 2654435761u >> 19];
			if (*slot != ~0u && i - *slot < 65536) {
				dist = i - *slot;
				while (len < 131 && i + len < n && in[i + len] == in[i + len - dist])
					len++;
			}
			*slot = i;
		}
		if (len < 4) {
			if (++i - lit < 128 && i < n)
				continue;
			len = 0;
		}
		if (i > lit) {
			*o++ = i - lit - 1;
			memcpy(o, in + lit, i - lit);
			o += i - lit;
		}
		if (len) {
			*o++ = len + 124;
			*o++ = dist;
			*o++ = dist >> 8;
			i += len;
		}
		lit = i;
	}
	return o - out;
}

static noinline size_t lz_unpack(const u8 *in, size_t n, u8 *out)
{
	u8 *o = out;
	for (const u8 *e = in + n; in < e;) {
		int t = *in++;
		if (t < 128) {
			for (t++; t; t--)
				*o++ = *in++;
		} else {
			const u8 *s = o - (in[0] | in[1] << 8);
			in += 2;
			for (t -= 124; t; t--)
				*o++ = *s++;
		}
	}
	return o - out;
}

static void b_lz(void)
{
	enum { N = 1 << 18 };
	static char text[N];
	static u8 packed[N * 2], back[N];
	size_t len = make_text(text, N), out = 0;
	u64 n = scaled(160), sum = 0;
	begin();
	for (u64 k = 0; k < n; k++) {
		text[k % len] = 'A' + k % 26;
		out = lz_pack((u8 *)text, len, packed);
		if (lz_unpack(packed, out, back) != len || memcmp(text, back, len))
			die("round trip");
		sum = mix(sum, out);
	}
	end((double)n * len, 1e6, "MB/s", mix(sum, mixbuf(packed, out)));
}

struct node { struct node *next; u64 pad[7]; };

static void chase(size_t bytes, double loads)
{
	struct sysinfo si;
	if (sysinfo(&si) == 0 && (double)si.freeram * si.mem_unit < bytes * 1.25)
		return skip("memory");
	size_t cnt = bytes / sizeof(struct node);
	struct node *v = pages(bytes, RW);
	for (size_t i = 0; i < cnt; i++)
		v[i].next = &v[i];
	for (size_t i = cnt - 1; i > 0; i--) {      /* Sattolo: one cycle */
		size_t j = rnd() % i;
		struct node *t = v[i].next;
		v[i].next = v[j].next;
		v[j].next = t;
	}
	u64 n = scaled(loads);
	struct node *p = v;
	begin();
	for (u64 i = 0; i < n; i++)
		p = p->next;
	end(n, 1e6, "Mload/s", (u64)(p - v) + 1);
}

static void b_chase64k(void) { chase(64 << 10, 80e6); }
static void b_chase4m(void) { chase(4 << 20, 25e6); }
static void b_chase64m(void) { chase(64 << 20, 6e6); }

/* ---- floating point and vectors ---- */

static void b_nbody(void)
{
	enum { B = 5 };
	static double p[B][3], v[B][3], m[B];
	for (int i = 0; i < B; i++) {
		m[i] = i ? 0.001 * i : 39.0;
		for (int k = 0; k < 3; k++) {
			p[i][k] = i * (k + 1.5) * (k & 1 ? -1.0 : 1.0);
			v[i][k] = i ? 2.0 / i * (k == i % 3) : 0.0;
		}
	}
	u64 n = scaled(2e6);
	const double dt = 0.001;
	begin();
	for (u64 s = 0; s < n; s++) {
		for (int i = 0; i < B; i++)
			for (int j = i + 1; j < B; j++) {
				double d[3], r2 = 0;
				for (int k = 0; k < 3; k++) {
					d[k] = p[i][k] - p[j][k];
					r2 += d[k] * d[k];
				}
				double f = dt / (r2 * __builtin_sqrt(r2));
				for (int k = 0; k < 3; k++) {
					v[i][k] -= d[k] * m[j] * f;
					v[j][k] += d[k] * m[i] * f;
				}
			}
		for (int i = 0; i < B; i++)
			for (int k = 0; k < 3; k++)
				p[i][k] += dt * v[i][k];
	}
	end(n, 1e6, "Mstep/s", mixbuf(p, sizeof p));
}

static void b_x87(void)
{
	u64 n = scaled(16e6), sum = 0;
	volatile long double c = 3.7L;
	long double x = 0.4L, acc = 0;
	begin();
	for (u64 i = 0; i < n; i++) {
		x = c * x * (1.0L - x);
		acc += x / (x + 1.0L);
	}
	memcpy(&sum, &acc, sizeof sum);
	end(n, 1e6, "Miter/s", sum);
}

enum { M = 192 };
static float ma[M][M] __attribute__((aligned(64)));
static float mb[M][M] __attribute__((aligned(64)));
static float mc[M][M] __attribute__((aligned(64)));

static noinline void mul_sse2(void)
{
	for (int i = 0; i < M; i++)
		for (int j = 0; j < M; j += 16) {
			__m128 c[4] = { _mm_setzero_ps(), _mm_setzero_ps(),
							_mm_setzero_ps(), _mm_setzero_ps() };
			for (int k = 0; k < M; k++) {
				__m128 a = _mm_set1_ps(ma[i][k]);
				for (int t = 0; t < 4; t++)
					c[t] = _mm_add_ps(c[t], _mm_mul_ps(a, _mm_load_ps(&mb[k][j + 4 * t])));
			}
			for (int t = 0; t < 4; t++)
				_mm_store_ps(&mc[i][j + 4 * t], c[t]);
		}
}

/* no FMA, so that the result is bit-identical to mul_sse2's */
__attribute__((target("avx2"))) static noinline void mul_avx2(void)
{
	for (int i = 0; i < M; i++)
		for (int j = 0; j < M; j += 32) {
			__m256 c[4] = { _mm256_setzero_ps(), _mm256_setzero_ps(),
							_mm256_setzero_ps(), _mm256_setzero_ps() };
			for (int k = 0; k < M; k++) {
				__m256 a = _mm256_set1_ps(ma[i][k]);
				for (int t = 0; t < 4; t++)
					c[t] = _mm256_add_ps(c[t], _mm256_mul_ps(a, _mm256_load_ps(&mb[k][j + 8 * t])));
			}
			for (int t = 0; t < 4; t++)
				_mm256_store_ps(&mc[i][j + 8 * t], c[t]);
		}
}

static void matmul(void (*mul)(void), double reps)
{
	for (int i = 0; i < M; i++)
		for (int j = 0; j < M; j++) {
			ma[i][j] = (int)(rnd() % 2001 - 1000) / 500.0f;
			mb[i][j] = (int)(rnd() % 2001 - 1000) / 700.0f;
		}
	u64 n = scaled(reps);
	begin();
	for (u64 k = 0; k < n; k++) {
		ma[k % M][0] += 1.0f;
		mul();
	}
	end(2.0 * n * M * M * M, 1e6, "Mflop/s", mixbuf(mc, sizeof mc));
}

static void b_matsse2(void) { matmul(mul_sse2, 60); }

static int have_avx2(void)
{
	u32 a, b, c, d;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 0;
	u32 lo, hi;
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (lo & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}

static void b_matavx2(void)
{
	if (have_avx2())
		matmul(mul_avx2, 60);
	else
		skip("cpuid");
}

/* ---- memory ---- */

static noinline void copy_rep(void *d, const void *s, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}

static noinline void copy_sse(void *d, const void *s, size_t n)
{
	for (size_t i = 0; i < n; i += 64)
		for (int k = 0; k < 64; k += 16)
			_mm_storeu_si128((__m128i *)((char *)d + i + k),
							 _mm_loadu_si128((const __m128i *)((const char *)s + i + k)));
}

static void copy(void (*fn)(void *, const void *, size_t), double reps)
{
	enum { N = 1 << 20 };
	char *a = pages(N, RW), *b = pages(N, RW);
	for (int i = 0; i < N; i++)
		a[i] = i * 7;
	fn(b, a, N);
	u64 n = scaled(reps);
	begin();
	for (u64 k = 0; k < n; k++)
		fn(b, a, N);
	end((double)n * N, 1e6, "MB/s", mixbuf(b, N));
}

static void b_copyrep(void) { copy(copy_rep, 2400); }
static void b_copysse(void) { copy(copy_sse, 5000); }

static void b_atomic(void)
{
	u64 n = scaled(32e6), v = 0, lock = 0;
	begin();
	for (u64 i = 0; i < n; i++) {
		u64 want = 0;
		__atomic_compare_exchange_n(&lock, &want, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(&v, i, __ATOMIC_SEQ_CST);
		__atomic_exchange_n(&lock, 0, __ATOMIC_SEQ_CST);
	}
	end(3.0 * n, 1e6, "Mop/s", v);
}

/* ---- calls ---- */

struct shape { const struct shape_ops *ops; u64 w, h; };
struct shape_ops { u64 (*area)(const struct shape *, u64); };
#define SHAPE(k, expr) \
	static u64 area##k(const struct shape *s, u64 x) { return (expr); } \
	static const struct shape_ops ops##k = { area##k };
SHAPE(0, s->w * s->h + x)
SHAPE(1, (s->w * s->h >> 1) ^ x)
SHAPE(2, s->w * s->w * 3 + x)
SHAPE(3, (s->w + s->h) ^ (x << 1))
SHAPE(4, s->w - s->h + x)
SHAPE(5, (s->w | s->h) + (x >> 1))
SHAPE(6, s->w ^ x)
SHAPE(7, s->h + (x ^ 5))

static noinline u64 total_area(struct shape *const *v, size_t n, u64 x)
{
	for (size_t i = 0; i < n; i++)
		x = v[i]->ops->area(v[i], x);
	return x;
}

static void b_vcall(void)
{
	enum { N = 4096 };
	static const struct shape_ops *const kinds[8] = {
		&ops0, &ops1, &ops2, &ops3, &ops4, &ops5, &ops6, &ops7 };
	static struct shape objs[N], *v[N];
	for (int i = 0; i < N; i++) {
		objs[i] = (struct shape){ kinds[rnd() % 8], rnd() % 100, rnd() % 100 };
		v[i] = &objs[i];
	}
	u64 n = scaled(14000), x = 0;
	begin();
	for (u64 k = 0; k < n; k++)
		x = total_area(v, N, x);
	end((double)n * N, 1e6, "Mcall/s", x | 1);
}

static u64 fib_calls;
static noinline u64 fib(u32 n)
{
	fib_calls++;
	if (n < 2)
		return n;
	u64 a = fib(n - 1), b = fib(n - 2);
	__asm__("" : "+r"(a), "+r"(b));       /* keeps gcc from making it a loop */
	return a + b;
}

static void b_fib(void)
{
	u64 n = scaled(50), x = 0;
	begin();
	for (u64 k = 0; k < n; k++)
		x = mix(x, fib(30));
	end(fib_calls, 1e6, "Mcall/s", x);
}

/* ---- code written at run time ---- */

/* what b_smc and b_jit make takes its argument in EDI */
static u32 call_code(const void *code, u32 x)
{
#ifdef __i386__
	u32 result;
	__asm__ volatile("call *%2" : "=a"(result), "+D"(x) : "r"(code) : "ecx", "edx", "memory", "cc");
	return result;
#else
	return ((u32 (*)(u32))code)(x);
#endif
}

/* patch an immediate, call, patch again: every call meets modified code */
static void b_smc(void)
{
	u8 *c = pages(4096, RW | PROT_EXEC);
	static const u8 code[] = { 0xb8, 0, 0, 0, 0, 0x01, 0xf8, 0xc3 }; /* mov $imm,%eax; add %edi,%eax; ret */
	memcpy(c, code, sizeof code);
	u64 n = scaled(400e3);
	u32 x = 1;
	begin();
	for (u64 i = 0; i < n; i++) {
		u32 imm = i * 2654435761u;
		memcpy(c + 1, &imm, 4);
		__asm__ volatile("" : : : "memory");
		x = call_code(c, x ^ i);
	}
	u32 want = 1;
	for (u64 i = 0; i < n; i++)
		want = (want ^ (u32)i) + (u32)(i * 2654435761u);
	end(n, 1e3, "Kpatch/s", (u64)x << 1 | 1);
	if (x != want)
		die("wrong result");
}

/* a small JIT: emit a 128-instruction function, run it 64 times, emit the next */
static void b_jit(void)
{
	enum { BUF = 1 << 18, LEN = 128 };
	u8 *buf = pages(BUF, RW | PROT_EXEC), *p = buf;
	u64 n = scaled(16e3);
	u32 x = 1, want = 1;
	begin();
	for (u64 k = 0; k < n; k++) {
		u8 op[LEN];
		u32 imm[LEN];
		if (p + LEN * 5 + 16 > buf + BUF)
			p = buf;
		u8 *start = p;
		*p++ = 0x89, *p++ = 0xf8;                           /* mov %edi,%eax */
		for (int i = 0; i < LEN; i++) {
			u64 r = rnd();
			op[i] = r % 3;
			imm[i] = r >> 32;
			if (op[i] == 2) {
				imm[i] = imm[i] % 31 + 1;
				*p++ = 0xc1, *p++ = 0xc0, *p++ = imm[i];    /* rol $imm,%eax */
			} else {
				*p++ = op[i] ? 0x35 : 0x05;                 /* xor/add $imm,%eax */
				memcpy(p, &imm[i], 4);
				p += 4;
			}
		}
		*p++ = 0xc3;
		__asm__ volatile("" : : : "memory");
		for (int i = 0; i < 64; i++)
			x = call_code(start, x);
		if (k % 16 == 0) {                                  /* check now and then */
			u32 y = want = x;
			y = call_code(start, y);
			for (int i = 0; i < LEN; i++)
				want = op[i] == 0 ? want + imm[i] : op[i] == 1 ? want ^ imm[i]
															   : ror(want, 32 - imm[i]);
			if (y != want)
				die("wrong result");
		}
	}
	end(n, 1e3, "Kfunc/s", (u64)x << 1 | 1);
}

/* ---- kernel ---- */

static void b_syscall(void)
{
	u64 n = scaled(2.5e6);
	begin();
	for (u64 i = 0; i < n; i++)
		syscall(SYS_getppid);
	end(n, 1e3, "Kcall/s", 0);
}

static void b_clock(void)
{
	u64 n = scaled(10e6), bad = 0;
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	begin();
	for (u64 i = 0; i < n; i++) {
		clock_gettime(CLOCK_MONOTONIC, &b);
		bad += b.tv_sec < a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec < a.tv_nsec);
		a = b;
	}
	end(n, 1e6, "Mcall/s", bad);        /* sum: times the clock went backwards */
}

static void b_pipe(void)
{
	int a[2], b[2];
	char c = 0;
	if (pipe(a) || pipe(b))
		die("pipe");
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		close(a[1]);
		while (read(a[0], &c, 1) == 1 && write(b[1], &c, 1) == 1)
			;
		_exit(0);
	}
	u64 n = scaled(40e3);
	begin();
	for (u64 i = 0; i < n; i++)
		if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1)
			die("pipe io");
	end(n, 1e3, "Kround/s", 0);
	close(a[0]), close(a[1]), close(b[0]), close(b[1]);
	waitpid(pid, NULL, 0);
}

static void b_fork(void)
{
	u64 n = scaled(4000);
	begin();
	for (u64 i = 0; i < n; i++) {
		int st;
		pid_t pid = fork();
		if (pid < 0)
			die("fork");
		if (!pid)
			_exit(7);
		if (waitpid(pid, &st, 0) != pid || WEXITSTATUS(st) != 7)
			die("wait");
	}
	end(n, 1e3, "Kfork/s", 0);
}

static void b_exec(void)
{
	u64 n = scaled(1600);
	begin();
	for (u64 i = 0; i < n; i++) {
		int st;
		pid_t pid = fork();
		if (pid < 0)
			die("fork");
		if (!pid) {
			execl("/proc/self/exe", "guestbench", "nop", (char *)0);
			_exit(127);
		}
		if (waitpid(pid, &st, 0) != pid || WEXITSTATUS(st) != 7)
			die("exec");
	}
	end(n, 1e3, "Kexec/s", 0);
}

static void b_fault(void)
{
	enum { N = 4 << 20 };
	u64 n = scaled(180);
	begin();
	for (u64 i = 0; i < n; i++) {
		char *p = pages(N, RW);
		for (size_t k = 0; k < N; k += 4096)
			p[k] = k;
		munmap(p, N);
	}
	end((double)n * N / 4096, 1e3, "Kpage/s", 0);
}

static volatile sig_atomic_t sigs;
static void on_signal(int s) { (void)s; sigs = sigs + 1; }

static void b_signal(void)
{
	struct sigaction sa = { .sa_handler = on_signal };
	sigaction(SIGUSR1, &sa, NULL);
	u64 n = scaled(100e3);
	begin();
	for (u64 i = 0; i < n; i++)
		kill(getpid(), SIGUSR1);
	end(n, 1e3, "Ksig/s", 0);
	if ((u64)sigs != n)
		die("lost signals");
}

static void b_file(void)
{
	static char blk[4096];
	char name[PATH_MAX];
	const char *dir = getenv("GUESTBENCH_DIR");   /* must be a tmpfs */
	snprintf(name, sizeof name, "%s/guestbench.%d", dir ? dir : "/dev/shm", (int)getpid());
	u64 n = scaled(12e3);
	begin();
	for (u64 i = 0; i < n; i++) {
		int fd = open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
		if (fd < 0)
			die(name);
		for (int k = 0; k < 4; k++)
			if (write(fd, blk, sizeof blk) != sizeof blk)
				die("write");
		close(fd);
		unlink(name);
	}
	end(n, 1e3, "Kfile/s", 0);
}

static void pair(void *(*fn)(void *))
{
	pthread_t t;
	if (pthread_create(&t, NULL, fn, (void *)1))
		die("thread");
	fn((void *)0);
	pthread_join(t, NULL);
}

static pthread_mutex_t mtx = PTHREAD_MUTEX_INITIALIZER;
static u64 per_thread, shared_count;

static void *mutex_side(void *arg)
{
	(void)arg;
	for (u64 i = 0; i < per_thread; i++) {
		pthread_mutex_lock(&mtx);
		shared_count++;
		pthread_mutex_unlock(&mtx);
	}
	return NULL;
}

static void b_mutex(void)
{
	per_thread = scaled(3e6);
	begin();
	pair(mutex_side);
	end(2.0 * per_thread, 1e6, "Mlock/s", shared_count);
}

enum { FUTEX_WAIT_PRIV = 128, FUTEX_WAKE_PRIV = 129 };   /* linux/futex.h, which musl-gcc lacks */
static u32 turn;

static void *futex_side(void *arg)
{
	u32 me = (u32)(uintptr_t)arg;
	for (u64 i = 0; i < per_thread; i++) {
		while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != me)
			syscall(SYS_futex, &turn, FUTEX_WAIT_PRIV, !me, NULL, NULL, 0);
		__atomic_store_n(&turn, !me, __ATOMIC_RELEASE);
		syscall(SYS_futex, &turn, FUTEX_WAKE_PRIV, 1, NULL, NULL, 0);
	}
	return NULL;
}

static void b_futex(void)
{
	per_thread = scaled(60e3);
	begin();
	pair(futex_side);
	end(per_thread, 1e3, "Kround/s", 0);
}

/* two threads of plain computing: shows whether the guest has two real CPUs */
static void *par_side(void *arg)
{
	enum { N = 1 << 17 };
	static u8 s[2][N];
	u64 sum = 0;
	for (u64 i = 0; i < per_thread; i++)
		sum = mix(sum, sieve(s[(uintptr_t)arg], N - i % 1000));
	__atomic_fetch_add(&shared_count, sum, __ATOMIC_SEQ_CST);
	return NULL;
}

static void b_par2(void)
{
	per_thread = scaled(1000);
	begin();
	pair(par_side);
	end(2.0 * per_thread * (1 << 17), 1e6, "Mnum/s", shared_count);
}

static void b_timer(void)
{
	u64 n = scaled(300);
	struct timespec ms = { 0, 1000000 };
	begin();
	for (u64 i = 0; i < n; i++)
		nanosleep(&ms, NULL);
	double s = elapsed();
	say("END %s\n", cur);
	say("bench %s %.5g us t=%.4f sum=0\n", cur, s / n * 1e6, s);
}

static const struct { const char *name; void (*run)(void); } benches[] = {
	{ "interp", b_interp },     { "sort", b_sort },         { "hash", b_hash },
	{ "string", b_string },     { "sieve", b_sieve },       { "sha256", b_sha256 },
	{ "lz", b_lz },             { "nbody", b_nbody },       { "x87", b_x87 },
	{ "matsse2", b_matsse2 },   { "matavx2", b_matavx2 },   { "chase64k", b_chase64k },
	{ "chase4m", b_chase4m },   { "chase64m", b_chase64m }, { "copyrep", b_copyrep },
	{ "copysse", b_copysse },   { "atomic", b_atomic },     { "vcall", b_vcall },
	{ "fib", b_fib },           { "smc", b_smc },           { "jit", b_jit },
	{ "syscall", b_syscall },   { "clock", b_clock },       { "pipe", b_pipe },
	{ "fork", b_fork },         { "exec", b_exec },         { "fault", b_fault },
	{ "signal", b_signal },     { "file", b_file },         { "mutex", b_mutex },
	{ "futex", b_futex },       { "par2", b_par2 },         { "timer", b_timer },
};
enum { NBENCH = sizeof benches / sizeof *benches };

static int run_apart(void (*run)(void))
{
	int st;
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		run();
		_exit(0);
	}
	waitpid(pid, &st, 0);
	if (WIFSIGNALED(st))
		say("fail %s signal %d\n", cur, WTERMSIG(st));
	return st != 0;
}

int main(int argc, char **argv)
{
	int repeat = 1, c;
	if (argc == 2 && !strcmp(argv[1], "nop"))
		return 7;
	while ((c = getopt(argc, argv, "s:r:")) != -1) {
		if (c == 's')
			scale = atof(optarg);
		else if (c == 'r')
			repeat = atoi(optarg);
		else
			return 2;
	}
	if (optind == argc) {
		fprintf(stderr, "usage: guestbench [-s SCALE] [-r REPEAT] list | all | NAME...\n");
		return 2;
	}
	int all = !strcmp(argv[optind], "all"), rc = 0;
	if (!strcmp(argv[optind], "list")) {
		for (int b = 0; b < NBENCH; b++)
			say("%s\n", benches[b].name);
		return 0;
	}
	for (int i = optind; i < argc; i++) {
		int known = 0;
		for (int b = 0; b < NBENCH; b++) {
			if (!all && strcmp(argv[i], benches[b].name))
				continue;
			known = 1;
			cur = benches[b].name;
			for (int k = 0; k < repeat; k++)
				rc |= run_apart(benches[b].run);
		}
		if (!known) {
			say("fail %s unknown\n", argv[i]);
			rc = 2;
		}
		if (all)
			break;
	}
	say("BENCH-DONE\n");
	return rc;
}
