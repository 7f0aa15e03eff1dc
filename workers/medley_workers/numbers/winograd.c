/* 3 x 3 convolutions by Winograd's F(4x4, 3x3), fused with what VGG-19 has around them; loaded by winograd.py.
 *
 * Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016). A tile of 4 x 4 outputs comes from 6 x 6
 * inputs d by Y = A' [sum over channels of (G g G') * (B' d B)] A, where * multiplies each of the 36 places by itself:
 * 36 products instead of 144. So there are three stages:
 *
 *   spread     V[place][tile][c]       = B' d B
 *   multiply   M[place][tile][k]       = sum over c of V[place][tile][c] U[place][c][k]      36 matrix products
 *   gather     out[4 x 4 pixels][k]    = A' M A, then bias, ReLU, pooling, or what a gradient needs
 *
 * Pictures are NHWC float32 without gaps. Numbers of channels are multiples of 16; only at the end at which people's
 * pictures are there may be fewer, and such a convolution is done directly. U comes from winograd_pack as
 * [panel][place][c][PANEL]: PANEL output channels at a time, the last panel filled up with zeros. U and scratch memory
 * are the caller's, as large as the functions ending in _size say, and begin at multiples of 64 bytes. Nothing here is
 * global, so several threads may call at once.
 *
 * The stages are written once, for vectors of LANES floats, and compiled for each instruction set ("level") by this
 * file including itself: AVX2 with FMA, AVX-512, and AVX-512 with V and U as bfloat16 and sums as float32. A processor
 * of another kind, or a compiler of another kind, gets a file that says level 0 and does nothing.
 *
 * Sums are in the same order however tiles are shared out, so results do not depend on the number of threads. OpenMP's
 * functions are left undefined when this is linked: see winograd.py.
 */

#ifndef LANES /* The part that is the same for all instruction sets. It includes the other one, below. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* What to compute. Level 0 has nothing to compute it with. */
struct convolution {
    int64_t n, h, w, c, k;   /* pictures, rows and columns, both before pooling, channels read and written */
    const float *in;         /* (n, h, w, c), or (n, h / 2, w / 2, c) if from_pooled */
    int from_pooled;         /* whether in is a gradient behind pooling */
    const uint8_t *from;     /* as in: which of four pixels, 0..3 by rows, each is the gradient of */
    const void *u;           /* the packed weights */
    const float *bias;       /* (k), added; or NULL */
    int relu;                /* whether negative outputs become 0 */
    const float *add, *mask; /* (n, h, w, k): added; and where it is not above 0, out becomes 0; or NULL */
    float *out;              /* (n, h, w, k), or (n, h / 2, w / 2, k) if to_pooled */
    int to_pooled;           /* whether out is the largest of four pixels each */
    uint8_t *which;          /* as out: which of four pixels, 0..3 by rows, it is, the first of equal ones */
    int threads;
    char *scratch;
};

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 10

#include <immintrin.h>
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

enum {
    PLACES = 36,
    BLOCK = 24,         /* tiles, so many that V of 128 channels and M of a panel stay in a core's L2 of 1 MB */
    SHARED_BLOCK = 192, /* tiles, so many that V and M of 256 channels stay in the L3 */
    STRIP = 16,         /* rows that a thread works on in to_few */
};

/* The nearest bfloat16, the even one of two. */
static inline uint16_t rounded(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

typedef int32_t pair __attribute__((may_alias)); /* of bfloat16 */

/* A tile to read: inside of the picture, at its edge, or behind pooling. */
enum kind { WHOLE, EDGE, POOLED };

#define INLINE static inline __attribute__((always_inline))

/* Whether these are the channels of a picture for people, too few for vectors. A convolution that reads or writes such
 * a picture is a plain sum of products, in float32 at every level.
 */
INLINE int are_few(int64_t channels) { return channels % 16 != 0; }

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Bytes that do not put every row, or every place, into the same few sets of a cache: an odd number of lines. */
INLINE int64_t spaced(int64_t bytes) { return (divided_up(bytes, 64) | 1) * 64; }

/* How a convolution is cut. Bytes, unless said otherwise. */
struct plan {
    int64_t across, down, tiles; /* tiles in a row, in a column, in all pictures */
    int64_t block;               /* tiles that are worked on together */
    int64_t panels;
    int shared; /* whether all threads work on one block, or each on its own */
    int64_t v_row, v_place, v_size;
    int64_t m_place, m_panel, m_size;
};

struct corner {
    int64_t picture, top, left; /* of a tile's outputs; its inputs begin a row and a column before */
};

INLINE struct corner corner_of(const struct plan *plan, int64_t tile)
{
    int64_t picture = tile / (plan->across * plan->down), within = tile - picture * plan->across * plan->down;
    return (struct corner){picture, within / plan->across * 4, within % plan->across * 4};
}

/* Have the cache fetch what will be read, or written, soon. Tiles are no stream that it would foresee. */
INLINE void fetch(const void *from, int64_t bytes)
{
    for (int64_t line = 0; line < bytes; line += 64)
        __builtin_prefetch((const char *)from + line, 0, 2);
}

/* What spread will read of a tile, but for what it shares with the one to its left. */
INLINE void fetch_input(const struct convolution *this, const struct plan *plan, int64_t tile)
{
    struct corner at = corner_of(plan, tile);
    int pool = this->from_pooled ? 2 : 1;
    int64_t h = this->h / pool, w = this->w / pool, left = at.left / pool + 1;
    int64_t columns = smaller(4 / pool, w - left), bottom = smaller((at.top + 5 + pool - 1) / pool, h);
    for (int64_t row = at.top > 0 ? at.top / pool - 1 : 0; row < bottom && columns > 0; row++) {
        int64_t begin = ((at.picture * h + row) * w + left) * this->c;
        fetch(this->in + begin, columns * this->c * 4);
        if (this->from_pooled)
            fetch(this->from + begin, columns * this->c);
    }
}

/* What gather will read and write for some channels of a tile. */
INLINE void fetch_output(const struct convolution *this, const struct plan *plan, int64_t tile, int64_t k, int64_t ks)
{
    struct corner at = corner_of(plan, tile);
    int pool = this->to_pooled ? 2 : 1;
    int64_t h = this->h / pool, w = this->w / pool, top = at.top / pool, left = at.left / pool, side = 4 / pool;
    for (int64_t row = top; row < smaller(top + side, h); row++)
        for (int64_t column = left; column < smaller(left + side, w); column++) {
            int64_t begin = ((at.picture * h + row) * w + column) * this->k + k;
            fetch(this->out + begin, ks * 4);
            if (this->to_pooled)
                fetch(this->which + begin, ks);
            if (this->add)
                fetch(this->add + begin, ks * 4);
            if (this->mask)
                fetch(this->mask + begin, ks * 4);
        }
}

/* ROWS x 2 sums, two vectors of U and one of V are what the registers hold. SCALE is 1 where it can be: a factor then
 * vanishes wherever a picture is flat, so pixels that are equal stay so, as pooling and its gradient expect. At 3/4
 * rounding errors are half of what they are at 1, which counts with bfloat16.
 */

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define LANES 8
#define BF16 0
#define ROWS 6
#define SCALE 1.0f
#define NAME(name) name##_avx2
#include "winograd.c"
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#define LANES 16
#define BF16 0
#define ROWS 12
#define SCALE 1.0f
#define NAME(name) name##_avx512
#include "winograd.c"
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#define LANES 16
#define BF16 1
#define ROWS 12
#define SCALE 0.75f
#define NAME(name) name##_bf16
#include "winograd.c"
#pragma GCC pop_options

/* A call of what was compiled for a level, for so many channels. */
#define CALL(function, level, c, k, ...)                                                                               \
    (are_few(c) || are_few(k) ? level == 1 ? few_##function##_avx2(__VA_ARGS__) : few_##function##_avx512(__VA_ARGS__) \
     : level == 1             ? function##_avx2(__VA_ARGS__)                                                           \
     : level == 2             ? function##_avx512(__VA_ARGS__)                                                         \
                              : function##_bf16(__VA_ARGS__))

/* The best level that this processor has: 0 none, 1 AVX2, 2 AVX-512, 3 that and bfloat16. */
EXPORT int winograd_level(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return 0;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return 1;
    return __builtin_cpu_supports("avx512bf16") ? 3 : 2;
}

#else

EXPORT int winograd_level(void) { return 0; }

#define CALL(function, level, ...) nothing(level, __VA_ARGS__)

static int64_t nothing(int level, ...) { return 0 * level; }

#endif

/* Bytes of the packed weights of a convolution that reads c channels and writes k, in whatever direction. */
EXPORT int64_t winograd_packed_size(int level, int64_t c, int64_t k) { return CALL(packed_size, level, c, k, c, k); }

/* Pack weights (k, c, 3, 3), or for the other direction, in which c are written and k are read, (c, k, 3, 3). */
EXPORT void winograd_pack(int level, int threads, int backward, int64_t c, int64_t k, const float *weight, void *u)
{
    CALL(pack, level, c, k, threads, backward, c, k, weight, u);
}

/* Bytes of scratch memory for a convolution of (n, h, w, c) to k channels, in whatever direction. */
EXPORT int64_t winograd_scratch_size(int level, int threads, int64_t n, int64_t h, int64_t w, int64_t c, int64_t k)
{
    struct convolution this = {.n = n, .h = h, .w = w, .c = c, .k = k, .threads = threads};
    return CALL(scratch_size, level, c, k, &this);
}

/* out (n, h, w, k) = convolution of x (n, h, w, c) + bias, and ReLU if asked for. */
EXPORT void winograd_forward(int level, int threads, int64_t n, int64_t h, int64_t w, int64_t c, int64_t k,
                             const float *x, const void *u, const float *bias, int relu, float *out, char *scratch)
{
    struct convolution this = {.n = n, .h = h, .w = w, .c = c, .k = k, .in = x, .u = u, .bias = bias, .relu = relu,
                               .out = out, .threads = threads, .scratch = scratch};
    CALL(run, level, c, k, &this);
}

/* out and which (n, h / 2, w / 2, k) = ReLU of the convolution of x (n, h, w, c) + bias, the largest of 2 x 2. */
EXPORT void winograd_forward_pooled(int level, int threads, int64_t n, int64_t h, int64_t w, int64_t c, int64_t k,
                                    const float *x, const void *u, const float *bias, float *out, uint8_t *which,
                                    char *scratch)
{
    struct convolution this = {.n = n, .h = h, .w = w, .c = c, .k = k, .in = x, .u = u, .bias = bias, .relu = 1,
                               .out = out, .to_pooled = 1, .which = which, .threads = threads, .scratch = scratch};
    CALL(run, level, c, k, &this);
}

/* out (n, h, w, k), the gradient at a convolution's input, from the one at its output, gradient (n, h, w, c). add and
 * mask are as out; add is added, and where mask is not above 0, out becomes 0. Both may be NULL.
 */
EXPORT void winograd_backward(int level, int threads, int64_t n, int64_t h, int64_t w, int64_t c, int64_t k,
                              const float *gradient, const void *u, const float *add, const float *mask, float *out,
                              char *scratch)
{
    struct convolution this = {.n = n, .h = h, .w = w, .c = c, .k = k, .in = gradient, .u = u, .add = add,
                               .mask = mask, .out = out, .threads = threads, .scratch = scratch};
    CALL(run, level, c, k, &this);
}

/* The same from behind the pooling: gradient and from, winograd_forward_pooled's which, (n, h / 2, w / 2, c). */
EXPORT void winograd_backward_pooled(int level, int threads, int64_t n, int64_t h, int64_t w, int64_t c, int64_t k,
                                     const float *gradient, const uint8_t *from, const void *u, const float *add,
                                     const float *mask, float *out, char *scratch)
{
    struct convolution this = {.n = n, .h = h, .w = w, .c = c, .k = k, .in = gradient, .from_pooled = 1, .from = from,
                               .u = u, .add = add, .mask = mask, .out = out, .threads = threads, .scratch = scratch};
    CALL(run, level, c, k, &this);
}

#else /* The stages, for one instruction set: LANES, BF16, ROWS, SCALE and NAME are set above. */

#define PANEL (2 * LANES)

typedef float NAME(vector) __attribute__((vector_size(4 * LANES)));
typedef float NAME(unaligned) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t NAME(integers) __attribute__((vector_size(4 * LANES)));
typedef uint8_t NAME(bytes) __attribute__((vector_size(LANES), aligned(1), may_alias));
#define vector NAME(vector)
#define integers NAME(integers)

#if BF16
typedef uint16_t NAME(factor); /* an element of V and U */
#else
typedef float NAME(factor);
#endif
#define factor NAME(factor)

INLINE vector NAME(load)(const float *from) { return *(const NAME(unaligned) *)from; }
INLINE void NAME(store)(float *to, vector x) { *(NAME(unaligned) *)to = x; }
#define load NAME(load)
#define store NAME(store)

/* x in the lanes where a comparison said yes (-1), and y in those where it said no (0). */
INLINE vector NAME(choose)(integers which, vector x, vector y)
{
    return (vector)((which & (integers)x) | (~which & (integers)y));
}
#define choose NAME(choose)

/* a x + y, rounded once: where a compiler may choose, a sum could depend on which tiles are worked on together. */
INLINE vector NAME(fma)(float a, vector x, vector y)
{
#if LANES == 16
    return (vector)_mm512_fmadd_ps(_mm512_set1_ps(a), (__m512)x, (__m512)y);
#else
    return (vector)_mm256_fmadd_ps(_mm256_set1_ps(a), (__m256)x, (__m256)y);
#endif
}
#define fma NAME(fma)

INLINE integers NAME(load_bytes)(const uint8_t *from)
{
#if LANES == 16
    return (integers)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from));
#else
    return (integers)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
#endif
}

INLINE void NAME(store_factors)(factor *to, vector x)
{
#if BF16
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    store(to, x);
#endif
}

/* One dimension of B' d B, in place: d[0], d[step], ..., d[5 step]. The points are 0, SCALE, -SCALE, 2 SCALE, -2 SCALE
 * and infinity. Where all d are equal and SCALE is 1, each sum that should vanish does, in this order.
 */
INLINE void NAME(spread_line)(vector *d, const int step)
{
    const float s = SCALE, s2 = s * s, s4 = s2 * s2;
    vector d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    vector even = fma(-4 * s2, d2, d4), odd = fma(-4 * s2, d1, d3);
    vector even2 = fma(-s2, d2, d4), odd2 = fma(-s2, d1, d3);
    d[0] = fma(4 * s4, d0, fma(-5 * s2, d2, d4));
    d[step] = fma(s, odd, even);
    d[2 * step] = fma(-s, odd, even);
    d[3 * step] = fma(2 * s, odd2, even2);
    d[4 * step] = fma(-2 * s, odd2, even2);
    d[5 * step] = fma(4 * s4, d1, fma(-5 * s2, d3, d5));
}

/* One dimension of A' M A: m[0], m[step], ..., m[5 step] to y[0], y[y_step], ..., y[3 y_step]. */
INLINE void NAME(gather_line)(const vector *m, const int step, vector *y, const int y_step)
{
    const float s = SCALE, s2 = s * s;
    vector sum = m[step] + m[2 * step], difference = m[step] - m[2 * step];
    vector sum2 = m[3 * step] + m[4 * step], difference2 = m[3 * step] - m[4 * step];
    y[0] = m[0] + sum + sum2;
    y[y_step] = s * fma(2, difference2, difference);
    y[2 * y_step] = s2 * fma(4, sum2, sum);
    y[3 * y_step] = fma(s * s2, fma(8, difference2, difference), m[5 * step]);
}

/* The 6 x 6 inputs of a tile, LANES channels from c on, 0 outside of the picture; whole says that all are inside. */
INLINE void NAME(read_tile)(const struct convolution *this, struct corner at, const int whole, int64_t c, vector *d)
{
    int64_t top = at.top - 1, left = at.left - 1;
    const float *corner = this->in + ((at.picture * this->h + top) * this->w + left) * this->c + c;
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++)
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++)
            if (whole || (top + i >= 0 && top + i < this->h && left + j >= 0 && left + j < this->w))
                d[i * 6 + j] = load(corner + (i * this->w + j) * this->c);
            else
                d[i * 6 + j] = (vector){0};
}

/* As read_tile, of a gradient behind 2 x 2 pooling: each goes to the one of four pixels that it came from. */
INLINE void NAME(read_pooled_tile)(const struct convolution *this, struct corner at, int64_t c, vector *d)
{
    int64_t h = this->h / 2, w = this->w / 2, top = at.top / 2 - 1, left = at.left / 2 - 1;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vector gradient = {0};
            integers from = {0};
            if (top + i >= 0 && top + i < h && left + j >= 0 && left + j < w) {
                int64_t pixel = ((at.picture * h + top + i) * w + left + j) * this->c + c;
                gradient = load(this->in + pixel);
                from = NAME(load_bytes)(this->from + pixel);
            }
#pragma GCC unroll 4
            for (int four = 0; four < 4; four++) {
                int y = 2 * i + four / 2 - 1, x = 2 * j + four % 2 - 1;
                if (y >= 0 && y < 6 && x >= 0 && x < 6)
                    d[y * 6 + x] = choose(from == four, gradient, (vector){0});
            }
        }
}

INLINE void NAME(spread_kind)(const struct convolution *this, const struct plan *plan, struct corner at,
                              const enum kind kind, char *v)
{
    for (int64_t c = 0; c < this->c; c += LANES) {
        vector d[PLACES];
        if (kind == POOLED)
            NAME(read_pooled_tile)(this, at, c, d);
        else
            NAME(read_tile)(this, at, kind == WHOLE, c, d);
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++)
            NAME(spread_line)(d + j, 6);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            NAME(spread_line)(d + i * 6, 1);
#pragma GCC unroll 36
        for (int place = 0; place < PLACES; place++)
            NAME(store_factors)((factor *)(v + place * plan->v_place) + c, d[place]);
    }
}

/* V of one tile, all channels. */
static void NAME(spread)(const struct convolution *this, const struct plan *plan, int64_t tile, char *v)
{
    struct corner at = corner_of(plan, tile);
    if (this->from_pooled)
        NAME(spread_kind)(this, plan, at, POOLED, v);
    else if (at.top > 0 && at.left > 0 && at.top + 5 <= this->h && at.left + 5 <= this->w)
        NAME(spread_kind)(this, plan, at, WHOLE, v);
    else
        NAME(spread_kind)(this, plan, at, EDGE, v);
}

/* m[rows][PANEL] = v[rows][c] u[c][PANEL], with the sums in registers; rows, a constant, is at most ROWS. For each line
 * or two of u that are read, something is fetched at ahead, which moves on by pace.
 */
INLINE void NAME(multiply_rows)(const int rows, int64_t c, const factor *v, int64_t v_row, const factor *u, float *m,
                                int64_t m_row, const char *ahead, int64_t pace)
{
    vector sums[ROWS][2];
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
        sums[row][0] = sums[row][1] = (vector){0};
#if BF16
    for (int64_t i = 0; i < c; i += 2, u += 2 * PANEL, ahead += pace) {
        __builtin_prefetch(ahead, 0, 2);
        __m512bh u0 = (__m512bh)_mm512_load_si512(u), u1 = (__m512bh)_mm512_load_si512(u + PANEL);
#pragma GCC unroll 16
        for (int row = 0; row < rows; row++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32(*(const pair *)(v + row * v_row + i));
            sums[row][0] = (vector)_mm512_dpbf16_ps((__m512)sums[row][0], x, u0);
            sums[row][1] = (vector)_mm512_dpbf16_ps((__m512)sums[row][1], x, u1);
        }
    }
#else
    for (int64_t i = 0; i < c; i++, u += PANEL, ahead += pace) {
        __builtin_prefetch(ahead, 0, 2);
        vector u0 = *(const vector *)u, u1 = *(const vector *)(u + LANES);
#pragma GCC unroll 16
        for (int row = 0; row < rows; row++) {
            float x = v[row * v_row + i];
            sums[row][0] = fma(x, u0, sums[row][0]);
            sums[row][1] = fma(x, u1, sums[row][1]);
        }
    }
#endif
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++) {
        store(m + row * m_row, sums[row][0]);
        store(m + row * m_row + LANES, sums[row][1]);
    }
}

/* The same for any number of rows, cut into even parts. Meanwhile as much as u is fetched at ahead. */
static void NAME(multiply)(int64_t rows, int64_t c, const factor *v, int64_t v_row, const factor *u, float *m,
                           int64_t m_row, const factor *ahead)
{
    int64_t parts = divided_up(rows, ROWS), share = divided_up(c * PANEL * (int64_t)sizeof(factor), parts);
    int64_t pace = divided_up(PANEL * 4, parts);
    for (const char *next = (const char *)ahead; parts > 0; parts--, next += share) {
        int64_t part = divided_up(rows, parts);
        switch (part) {
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        if (n <= ROWS)                                                                                                 \
            NAME(multiply_rows)(n <= ROWS ? n : 1, c, v, v_row, u, m, m_row, next, pace);                              \
        break;
            CASE(1)
            CASE(2)
            CASE(3)
            CASE(4)
            CASE(5)
            CASE(6)
            CASE(7)
            CASE(8)
            CASE(9)
            CASE(10)
            CASE(11)
            CASE(12)
#undef CASE
        }
        rows -= part, v += part * v_row, m += part * m_row;
    }
}

/* Not a number stays so, here and in pooling: a painting that has gone wrong has to show it. */
INLINE vector NAME(relu)(vector x) { return choose(x < 0, (vector){0}, x); }

/* What a tile of 4 x 4 outputs is pooled to: 2 x 2, and which of four each is. */
INLINE void NAME(write_pooled)(const struct convolution *this, struct corner at, int64_t k, const vector *y)
{
    int64_t h = this->h / 2, w = this->w / 2, top = at.top / 2, left = at.left / 2;
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            if (top + i >= h || left + j >= w)
                continue;
            vector largest = y[8 * i + 2 * j];
            integers which = {0};
#pragma GCC unroll 3
            for (int four = 1; four < 4; four++) {
                vector x = y[8 * i + 2 * j + four / 2 * 4 + four % 2];
                integers larger = ~(x <= largest) & (largest == largest);
                largest = choose(larger, x, largest);
                which = (larger & four) | (~larger & which);
            }
            int64_t pixel = ((at.picture * h + top + i) * w + left + j) * this->k + k;
            store(this->out + pixel, largest);
            *(NAME(bytes) *)(this->which + pixel) = __builtin_convertvector(which, NAME(bytes));
        }
}

/* A tile's outputs, LANES channels from k on; whole says that all are inside of the picture. */
INLINE void NAME(write_tile)(const struct convolution *this, struct corner at, const int whole, int64_t k,
                              const vector *y)
{
    int64_t first = ((at.picture * this->h + at.top) * this->w + at.left) * this->k + k;
    int64_t rows = whole ? 4 : this->h - at.top, columns = whole ? 4 : this->w - at.left;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            int64_t pixel = first + (i * this->w + j) * this->k;
            vector x = y[i * 4 + j];
            if (i >= rows || j >= columns)
                continue;
            if (this->add)
                x += load(this->add + pixel);
            if (this->mask)
                x = choose(load(this->mask + pixel) > 0, x, (vector){0});
            store(this->out + pixel, x);
        }
}

/* The outputs of one tile, PANEL channels; m is where its panel and its row begin. */
static void NAME(gather)(const struct convolution *this, const struct plan *plan, int64_t tile, int64_t panel,
                         const char *m)
{
    struct corner at = corner_of(plan, tile);
    int inside = at.top + 4 <= this->h && at.left + 4 <= this->w;
    for (int64_t k = panel * PANEL; k < smaller(this->k, (panel + 1) * PANEL); k += LANES) {
        vector d[PLACES], half[24], y[16];
#pragma GCC unroll 36
        for (int place = 0; place < PLACES; place++)
            d[place] = load((const float *)(m + place * plan->m_place) + k % PANEL);
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++)
            NAME(gather_line)(d + j, 6, half + j, 6);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            NAME(gather_line)(half + i * 6, 1, y + i * 4, 1);
        if (this->bias)
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                y[i] += load(this->bias + k);
        if (this->relu)
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                y[i] = NAME(relu)(y[i]);
        if (this->to_pooled)
            NAME(write_pooled)(this, at, k, y);
        else if (inside)
            NAME(write_tile)(this, at, 1, k, y);
        else
            NAME(write_tile)(this, at, 0, k, y);
    }
}

static struct plan NAME(plan)(const struct convolution *this)
{
    struct plan plan = {.across = divided_up(this->w, 4), .down = divided_up(this->h, 4)};
    plan.tiles = this->n * plan.across * plan.down;
    plan.panels = divided_up(this->k, PANEL);
    plan.shared = plan.tiles < 4 * BLOCK * this->threads; /* else some would wait long for the last one */
    plan.block = divided_up(plan.tiles, divided_up(plan.tiles, plan.shared ? SHARED_BLOCK : BLOCK));
    plan.v_row = this->c * (int64_t)sizeof(factor) + 64;
    plan.v_place = spaced(plan.block * plan.v_row);
    plan.v_size = PLACES * plan.v_place;
    plan.m_place = spaced(plan.block * PANEL * 4);
    plan.m_panel = PLACES * plan.m_place;
    plan.m_size = (plan.shared ? plan.panels : 1) * plan.m_panel;
    return plan;
}

/* M of one place and one panel for the first tiles of a block. */
static void NAME(multiply_place)(const struct convolution *this, const struct plan *plan, int64_t tiles, int64_t place,
                                 int64_t panel, const char *v, char *m, int64_t next)
{
    const factor *u = this->u;
    int64_t size = this->c * PANEL, number = panel * PLACES + place;
    NAME(multiply)(tiles, this->c, (const factor *)(v + place * plan->v_place), plan->v_row / (int64_t)sizeof(factor),
                   u + number * size, (float *)(m + place * plan->m_place), PANEL,
                   u + (number + next) % (plan->panels * PLACES) * size);
}

/* Each thread has blocks of its own, and what is between the stages stays in its cache. */
static void NAME(run_apart)(const struct convolution *this, const struct plan *plan)
{
#pragma omp parallel for schedule(dynamic, 1) num_threads(this->threads)
    for (int64_t begin = 0; begin < plan->tiles; begin += plan->block) {
        char *v = this->scratch + omp_get_thread_num() * (plan->v_size + plan->m_size), *m = v + plan->v_size;
        int64_t tiles = smaller(plan->block, plan->tiles - begin);
        int64_t next = begin + plan->block * this->threads; /* what this thread will have, if all are as fast */
        for (int64_t tile = 0; tile < tiles; tile++)
            NAME(spread)(this, plan, begin + tile, v + tile * plan->v_row);
        for (int64_t panel = 0; panel < plan->panels; panel++) {
            int64_t k = panel * PANEL, ks = smaller(PANEL, this->k - k);
            for (int64_t place = 0; place < PLACES; place++) {
                NAME(multiply_place)(this, plan, tiles, place, panel, v, m, 1);
                for (int64_t tile = place * tiles / PLACES; tile < (place + 1) * tiles / PLACES; tile++) {
                    fetch_output(this, plan, begin + tile, k, ks);
                    if (panel + 1 == plan->panels && next + tile < plan->tiles)
                        fetch_input(this, plan, next + tile);
                }
            }
            for (int64_t tile = 0; tile < tiles; tile++)
                NAME(gather)(this, plan, begin + tile, panel, m + tile * PANEL * 4);
        }
    }
}

/* All threads have one block, and each of its stages is shared out, so that the weights are read once. */
static void NAME(run_shared)(const struct convolution *this, const struct plan *plan)
{
    char *v = this->scratch, *m = v + plan->v_size;
#pragma omp parallel num_threads(this->threads)
    for (int64_t begin = 0; begin < plan->tiles; begin += plan->block) {
        int64_t tiles = smaller(plan->block, plan->tiles - begin);
#pragma omp for schedule(dynamic, 4)
        for (int64_t tile = 0; tile < tiles; tile++) {
            if (tile + 1 < tiles)
                fetch_input(this, plan, begin + tile + 1);
            NAME(spread)(this, plan, begin + tile, v + tile * plan->v_row);
        }
#pragma omp for schedule(dynamic, 2) collapse(2)
        for (int64_t place = 0; place < PLACES; place++)
            for (int64_t panel = 0; panel < plan->panels; panel++)
                NAME(multiply_place)(this, plan, tiles, place, panel, v, m + panel * plan->m_panel, PLACES);
#pragma omp for schedule(dynamic, 8) collapse(2)
        for (int64_t panel = 0; panel < plan->panels; panel++)
            for (int64_t tile = 0; tile < tiles; tile++) {
                char *at = m + panel * plan->m_panel + tile * PANEL * 4;
                for (int64_t place = 0; place < PLACES; place++)
                    fetch(at + place * plan->m_place + PANEL * 4, PANEL * 4);
                if (tile + 1 < tiles)
                    fetch_output(this, plan, begin + tile + 1, panel * PANEL, smaller(PANEL, this->k - panel * PANEL));
                NAME(gather)(this, plan, begin + tile, panel, at);
            }
    }
}

static int64_t NAME(packed_size)(int64_t c, int64_t k)
{
    return divided_up(k, PANEL) * PLACES * c * PANEL * (int64_t)sizeof(factor);
}

/* G g G' of one kernel g, in double; G is 6 x 3. */
static void NAME(transform)(const float *g, int turned, double *u)
{
    const double points[] = {0, SCALE, -SCALE, 2 * SCALE, -2 * SCALE}, factors[] = {4, -6, -6, 24, 24};
    double G[6][3] = {[5] = {0, 0, 1}}, half[6][3];
    for (int i = 0; i < 5; i++) {
        G[i][0] = 1 / (factors[i] * SCALE * SCALE * SCALE * SCALE);
        G[i][1] = G[i][0] * points[i];
        G[i][2] = G[i][1] * points[i];
    }
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 3; j++) {
            half[i][j] = 0;
            for (int n = 0; n < 3; n++)
                half[i][j] += G[i][n] * g[turned ? 8 - n * 3 - j : n * 3 + j];
        }
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++)
            u[i * 6 + j] = half[i][0] * G[j][0] + half[i][1] * G[j][1] + half[i][2] * G[j][2];
}

static void NAME(pack)(int threads, int backward, int64_t c, int64_t k, const float *weight, void *packed)
{
    factor *u = packed;
    (void)threads; /* without OpenMP */
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int64_t panel = 0; panel < divided_up(k, PANEL); panel++)
        for (int64_t i = 0; i < c; i++)
            for (int64_t lane = 0; lane < PANEL; lane++) {
                int64_t j = panel * PANEL + lane;
                double places[PLACES] = {0};
                if (j < k)
                    NAME(transform)(weight + (backward ? i * k + j : j * c + i) * 9, backward, places);
                for (int place = 0; place < PLACES; place++) {
                    factor *matrix = u + (panel * PLACES + place) * c * PANEL;
#if BF16
                    matrix[i / 2 * 2 * PANEL + lane * 2 + i % 2] = rounded((float)places[place]);
#else
                    matrix[i * PANEL + lane] = (float)places[place];
#endif
                }
            }
}

static int64_t NAME(scratch_size)(const struct convolution *this)
{
    struct plan plan = NAME(plan)(this);
    return (plan.v_size + plan.m_size) * (plan.shared ? 1 : this->threads);
}

static void NAME(run)(const struct convolution *this)
{
    struct plan plan = NAME(plan)(this);
    if (plan.shared)
        NAME(run_shared)(this, &plan);
    else
        NAME(run_apart)(this, &plan);
}

#if !BF16

/* Three rows around row y, and a column of zeros on either side, as [w + 2][3][c]: the 9 c inputs of a pixel are then
 * without gaps, and those of the next one begin 3 c further on.
 */
static void NAME(interleave)(const struct convolution *this, int64_t picture, int64_t y, float *to)
{
    int64_t w = this->w, c = this->c;
    for (int64_t i = 0; i < 3; i++) {
        int64_t row = y - 1 + i;
        int inside = row >= 0 && row < this->h;
        const float *from = this->in + (inside ? (picture * this->h + row) * w * c : 0);
        for (int64_t x = 0; x < w + 2; x++)
            for (int64_t n = 0; n < c; n++)
                to[(x * 3 + i) * c + n] = inside && x > 0 && x <= w ? from[(x - 1) * c + n] : 0;
    }
}

/* From few channels, with u as [panel][column][row][c][PANEL]. */
static void NAME(from_few)(const struct convolution *this)
{
    int64_t c = 9 * this->c;
#pragma omp parallel for schedule(dynamic, 4) num_threads(this->threads)
    for (int64_t row = 0; row < this->n * this->h; row++) {
        float *rows = (float *)this->scratch + omp_get_thread_num() * (this->w + 2) * 3 * this->c;
        NAME(interleave)(this, row / this->h, row % this->h, rows);
        for (int64_t x = 0; x < this->w; x += ROWS) {
            int64_t pixels = smaller(ROWS, this->w - x);
            fetch(this->out + (row * this->w + x + ROWS) * this->k, ROWS * this->k * 4); /* what comes after it */
            for (int64_t panel = 0; panel * PANEL < this->k; panel++) {
                const float *u = (const float *)this->u + panel * c * PANEL;
                float sums[ROWS * PANEL];
                NAME(multiply)(pixels, c, rows + x * 3 * this->c, 3 * this->c, u, sums, PANEL, u);
                for (int64_t k = panel * PANEL; k < smaller(this->k, (panel + 1) * PANEL); k += LANES)
                    for (int64_t pixel = 0; pixel < pixels; pixel++) {
                        vector y = load(sums + pixel * PANEL + k % PANEL) + load(this->bias + k);
                        y = this->relu ? NAME(relu)(y) : y;
                        store(this->out + (row * this->w + x + pixel) * this->k + k, y);
                    }
            }
        }
    }
}

/* A row of out from products[3][w + 2][wide], of the rows around it: what each pixel gives to its 3 x 3 neighbours, k
 * channels for each. k is a constant where it can be.
 */
INLINE void NAME(gather_products)(const struct convolution *this, const int64_t k, int64_t row, int64_t wide,
                                  float *const products[3])
{
    for (int64_t x = 0; x < this->w; x++)
        for (int64_t n = 0; n < k; n++) {
            float sum = 0;
#pragma GCC unroll 3
            for (int i = 0; i < 3; i++)
#pragma GCC unroll 3
                for (int j = 0; j < 3; j++)
                    sum += products[i][(x + j) * wide + (i * 3 + j) * k + n];
            int64_t at = (row * this->w + x) * k + n;
            sum += this->add ? this->add[at] : 0;
            this->out[at] = this->mask && !(this->mask[at] > 0) ? 0 : sum;
        }
}

/* To few channels, with u as [panel][c][PANEL], of [row][column][k]. */
static void NAME(to_few)(const struct convolution *this)
{
    int64_t w = this->w, wide = divided_up(9 * this->k, PANEL) * PANEL, size = (w + 2) * wide;
    int64_t strips = divided_up(this->h, STRIP);
#pragma omp parallel for schedule(dynamic, 1) num_threads(this->threads)
    for (int64_t strip = 0; strip < this->n * strips; strip++) {
        float *scratch = (float *)this->scratch + omp_get_thread_num() * 3 * size;
        int64_t first = strip / strips * this->h, top = strip % strips * STRIP, bottom = smaller(top + STRIP, this->h);
        memset(scratch, 0, 3 * size * sizeof(float));
        for (int64_t y = top - 1; y <= bottom; y++) {
            float *row = scratch + (y + 3) % 3 * size;
            if (y < 0 || y == this->h)
                memset(row, 0, size * sizeof(float));
            else
                for (int64_t k = 0; k < wide; k += PANEL)
                    NAME(multiply)(w, this->c, this->in + (first + y) * w * this->c, this->c,
                                   (const float *)this->u + k * this->c, row + wide + k, wide, this->u);
            float *const products[3] = {scratch + (y + 1) % 3 * size, scratch + (y + 2) % 3 * size, row};
            if (y > top && this->k == 3)
                NAME(gather_products)(this, 3, first + y - 1, wide, products);
            else if (y > top)
                NAME(gather_products)(this, this->k, first + y - 1, wide, products);
        }
    }
}

static int64_t NAME(few_packed_size)(int64_t c, int64_t k)
{
    int64_t floats = are_few(c) ? divided_up(k, PANEL) * PANEL * 9 * c : divided_up(9 * k, PANEL) * PANEL * c;
    return floats * (int64_t)sizeof(float);
}

static void NAME(few_pack)(int threads, int backward, int64_t c, int64_t k, const float *weight, void *packed)
{
    float *u = packed;
    (void)threads;
    memset(u, 0, (size_t)NAME(few_packed_size)(c, k));
    for (int64_t i = 0; i < c; i++)
        for (int64_t j = 0; j < k; j++)
            for (int64_t tap = 0; tap < 9; tap++) {
                float x = weight[backward ? (i * k + j) * 9 + 8 - tap : (j * c + i) * 9 + tap];
                int64_t row = i, column = tap * k + j; /* of the matrix whose columns are cut into panels */
                if (are_few(c))
                    row = (tap % 3 * 3 + tap / 3) * c + i, column = j;
                int64_t rows = are_few(c) ? 9 * c : c;
                u[(column / PANEL * rows + row) * PANEL + column % PANEL] = x;
            }
}

static int64_t NAME(few_scratch_size)(const struct convolution *this)
{
    int64_t from = 3 * this->c, to = 3 * divided_up(9 * this->k, PANEL) * PANEL;
    return this->threads * (this->w + 2) * (are_few(this->c) ? from : to) * (int64_t)sizeof(float);
}

static void NAME(few_run)(const struct convolution *this)
{
    if (are_few(this->c))
        NAME(from_few)(this);
    else
        NAME(to_few)(this);
}

#endif

#undef LANES
#undef PANEL
#undef BF16
#undef ROWS
#undef SCALE
#undef NAME
#undef vector
#undef integers
#undef factor
#undef load
#undef store
#undef choose
#undef fma

#endif
