/* unit-header - the fixed layout at the start of a vault file, byte by byte. */
#include <stdlib.h>
#include <string.h>

#include "../../vault/header.h"
#include "unit.h"

static const uint8_t MAGIC[8] = {0x89, 0x56, 0x4c, 0x54, 0x0d, 0x0a, 0x1a, 0x0a};

/* Offsets of docs/vault-format.md, written out here once more. */
enum {
    AT_VERSION = 8, AT_HLEN = 10, AT_SUITE = 12, AT_COMP = 13, AT_NSLOTS = 14, AT_FLAGS = 15, AT_ID = 16, AT_GEN = 32,
    AT_SAVED = 40, AT_FSALT = 48, AT_RESCUE = 80, AT_SLOTS = 112,
    IN_TYPE = 0, IN_INDEX = 1, IN_Z2 = 2, IN_OPS = 4, IN_MEM = 8, IN_Z12 = 12, IN_SALT = 16, IN_LABEL = 32,
    IN_RECIPIENT = 64, IN_WRAPPED = 96, IN_TAIL = 96 + 72, IN_COMMIT = 176, SLOT = 200,
};

static struct slot slot_of(enum slot_type type, unsigned index)
{
    struct slot s;

    memset(&s, 0, sizeof s);
    s.type = (uint8_t)type;
    s.index = (uint8_t)index;
    if (type == SLOT_EMPTY)
        return s;
    unit_fill(s.wrapped, type == SLOT_IDENTITY ? 80 : 72, index + 1);
    unit_fill(s.commit, sizeof s.commit, index + 2);
    memcpy(s.label, "a name", 6);
    if (type == SLOT_IDENTITY) {
        unit_fill(s.recipient, sizeof s.recipient, index + 3);
    } else {
        s.ops = 3;
        s.mem_kib = 65536;
        unit_fill(s.salt, sizeof s.salt, index + 4);
    }
    return s;
}

static struct header header_of(unsigned nslots, enum slot_type first)
{
    struct header h;

    memset(&h, 0, sizeof h);
    h.comp = COMP_ZSTD;
    h.nslots = (uint8_t)nslots;
    unit_fill(h.vault_id, sizeof h.vault_id, 11);
    unit_fill(h.fsalt, sizeof h.fsalt, 12);
    unit_fill(h.rescue_pk, sizeof h.rescue_pk, 13);
    h.gen = 0x0102030405060708;
    h.saved_at = 0x1112131415161718;
    for (unsigned i = 0; i < nslots; i++)
        h.slots[i] = slot_of(i == 0 ? first : (enum slot_type)(i % 4), i);
    return h;
}

/* The bytes of a header, its sum and hmac filled with anything. */
static size_t bytes_of(const struct header *h, uint8_t bytes[HEADER_MAX])
{
    memset(bytes, 0xaa, HEADER_MAX);
    return header_format(h, bytes) + HEADER_SUM + HEADER_HMAC;
}

static void refused(uint8_t *bytes, size_t len, const char *word, int code)
{
    struct header h;
    struct err e = {0};

    assert_int_equal(header_parse(bytes, len, &h, &e), -1);
    assert_string_equal(e.word, word);
    assert_int_equal(e.code, code);
    assert_true(e.text[0] != '\0');
}

static void taken(uint8_t *bytes, size_t len)
{
    struct header h;
    struct err e = {0};

    if (header_parse(bytes, len, &h, &e) < 0)
        fail_msg("refused: %s", e.text);
}

static void the_length_follows_the_number_of_slots(void **state)
{
    (void)state;
    assert_int_equal(header_size(1), 112 + 200 + 48);
    assert_int_equal(header_size(8), 1760);
    assert_int_equal(HEADER_MAX, 1760);
}

static void every_field_stands_where_the_format_says(void **state)
{
    struct header h = header_of(2, SLOT_PASSPHRASE);
    uint8_t bytes[HEADER_MAX];

    (void)state;
    assert_int_equal(bytes_of(&h, bytes), 112 + 400 + 48);
    assert_memory_equal(bytes, MAGIC, 8);
    assert_memory_equal(bytes + AT_VERSION, "\x01\x00", 2);
    assert_memory_equal(bytes + AT_HLEN, "\x30\x02", 2); /* 560 */
    assert_memory_equal(bytes + AT_SUITE, "\x01\x01\x02\x00", 4);
    assert_memory_equal(bytes + AT_ID, h.vault_id, 16);
    assert_memory_equal(bytes + AT_GEN, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    assert_memory_equal(bytes + AT_SAVED, "\x18\x17\x16\x15\x14\x13\x12\x11", 8);
    assert_memory_equal(bytes + AT_FSALT, h.fsalt, 32);
    assert_memory_equal(bytes + AT_RESCUE, h.rescue_pk, 32);
    for (int i = 0; i < 2; i++) {
        const struct slot *s = &h.slots[i];
        const uint8_t *p = bytes + AT_SLOTS + i * SLOT;

        assert_int_equal(p[IN_TYPE], 1);
        assert_int_equal(p[IN_INDEX], i);
        assert_memory_equal(p + IN_Z2, "\0\0", 2);
        assert_memory_equal(p + IN_OPS, "\x03\0\0\0", 4);
        assert_memory_equal(p + IN_MEM, "\0\0\x01\0", 4);
        assert_memory_equal(p + IN_Z12, "\0\0\0\0", 4);
        assert_memory_equal(p + IN_SALT, s->salt, 16);
        assert_memory_equal(p + IN_LABEL, "a name\0\0", 8);
        assert_memory_equal(p + IN_RECIPIENT, s->recipient, 32);
        assert_memory_equal(p + IN_WRAPPED, s->wrapped, 80);
        assert_memory_equal(p + IN_COMMIT, s->commit, 24);
    }
    assert_int_equal(bytes[512], 0xaa); /* sum and hmac are somebody else's to write */
}

static void a_header_comes_back_as_it_was_with_any_number_of_slots(void **state)
{
    uint8_t bytes[HEADER_MAX], again[HEADER_MAX];

    (void)state;
    for (unsigned n = 1; n <= HEADER_SLOTS_MAX; n++)
        for (int first = SLOT_EMPTY; first <= SLOT_IDENTITY; first++) {
            struct header h = header_of(n, (enum slot_type)first), back;
            struct err e = {0};
            size_t len = bytes_of(&h, bytes);

            assert_int_equal(header_length(bytes, HEADER_PREFIX, &e), len);
            assert_int_equal(header_parse(bytes, len, &back, &e), 0);
            assert_int_equal(back.comp, h.comp);
            assert_int_equal(back.nslots, n);
            assert_int_equal(back.gen, h.gen);
            assert_int_equal(back.saved_at, h.saved_at);
            assert_memory_equal(back.vault_id, h.vault_id, sizeof h.vault_id);
            assert_memory_equal(back.fsalt, h.fsalt, sizeof h.fsalt);
            assert_memory_equal(back.rescue_pk, h.rescue_pk, sizeof h.rescue_pk);
            for (unsigned i = 0; i < n; i++) {
                assert_int_equal(back.slots[i].type, h.slots[i].type);
                assert_int_equal(back.slots[i].ops, h.slots[i].ops);
                assert_int_equal(back.slots[i].mem_kib, h.slots[i].mem_kib);
            }
            assert_int_equal(bytes_of(&back, again), len);
            assert_memory_equal(again, bytes, len);
        }
}

static void the_prefix_tells_the_length_or_why_there_is_none(void **state)
{
    struct header h = header_of(1, SLOT_PASSPHRASE);
    uint8_t bytes[HEADER_MAX];
    struct err e;

    (void)state;
    bytes_of(&h, bytes);
    for (size_t have = 0; have <= HEADER_PREFIX; have++) {
        memset(&e, 0, sizeof e);
        if (have == HEADER_PREFIX) {
            assert_int_equal(header_length(bytes, have, &e), 360);
            continue;
        }
        assert_int_equal(header_length(bytes, have, &e), 0);
        assert_string_equal(e.word, have < 8 ? "not-a-vault" : "truncated");
        assert_int_equal(e.code, ERR_DAMAGED);
    }
    for (int i = 0; i < 8; i++) {
        bytes[i] ^= 1;
        assert_int_equal(header_length(bytes, HEADER_PREFIX, &e), 0);
        assert_string_equal(e.word, "not-a-vault");
        bytes[i] ^= 1;
    }
}

static void a_newer_version_is_told_from_a_damaged_one(void **state)
{
    static const struct {
        uint8_t low, high;
        const char *word;
        int code;
    } CASES[] = {
        {0, 0, "damaged-header", ERR_DAMAGED}, {2, 0, "newer-version", ERR_NEWER},
        {1, 1, "newer-version", ERR_NEWER},    {0xff, 0xff, "newer-version", ERR_NEWER},
    };
    struct header h = header_of(1, SLOT_PASSPHRASE);
    uint8_t bytes[HEADER_MAX];

    (void)state;
    bytes_of(&h, bytes);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct err e = {0};

        bytes[AT_VERSION] = CASES[i].low;
        bytes[AT_VERSION + 1] = CASES[i].high;
        assert_int_equal(header_length(bytes, HEADER_PREFIX, &e), 0);
        assert_string_equal(e.word, CASES[i].word);
        assert_int_equal(e.code, CASES[i].code);
    }
}

static void only_the_right_pair_of_length_and_slots_is_taken(void **state)
{
    struct header h = header_of(1, SLOT_PASSPHRASE);
    uint8_t bytes[HEADER_MAX];
    unsigned taken_pairs = 0;

    (void)state;
    bytes_of(&h, bytes);
    for (unsigned nslots = 0; nslots < 256; nslots++)
        for (unsigned hlen = 0; hlen < 65536; hlen++) {
            bool right = nslots >= 1 && nslots <= 8 && hlen == 160 + 200 * nslots;
            struct err e;

            bytes[AT_NSLOTS] = (uint8_t)nslots;
            bytes[AT_HLEN] = (uint8_t)hlen;
            bytes[AT_HLEN + 1] = (uint8_t)(hlen >> 8);
            if (right) {
                taken_pairs++;
                assert_int_equal(header_length(bytes, HEADER_PREFIX, &e), hlen);
            } else if (nslots < 16 || hlen == 160 + 200 * nslots || hlen % 997 == 0) { /* enough of 16 million */
                assert_int_equal(header_length(bytes, HEADER_PREFIX, &e), 0);
                assert_string_equal(e.word, "damaged-header");
            }
        }
    assert_int_equal(taken_pairs, 8);
}

static void a_length_that_is_not_the_headers_own_is_refused(void **state)
{
    struct header h = header_of(2, SLOT_PASSPHRASE);
    uint8_t bytes[HEADER_MAX];
    size_t len = bytes_of(&h, bytes);

    (void)state;
    refused(bytes, len - 200, "altered-header", ERR_DAMAGED);
    refused(bytes, len + 200, "altered-header", ERR_DAMAGED);
}

static void suite_compression_and_flags_have_one_meaning_each(void **state)
{
    struct header h = header_of(1, SLOT_PASSPHRASE);
    uint8_t bytes[HEADER_MAX];
    size_t len = bytes_of(&h, bytes);

    (void)state;
    for (unsigned v = 0; v < 256; v++) {
        bytes[AT_SUITE] = (uint8_t)v;
        if (v != 1)
            refused(bytes, len, "altered-header", ERR_DAMAGED);
        bytes[AT_SUITE] = 1;
        bytes[AT_COMP] = (uint8_t)v;
        if (v > 1)
            refused(bytes, len, "altered-header", ERR_DAMAGED);
        else
            taken(bytes, len);
        bytes[AT_COMP] = 1;
        bytes[AT_FLAGS] = (uint8_t)v;
        if (v != 0)
            refused(bytes, len, "altered-header", ERR_DAMAGED);
        bytes[AT_FLAGS] = 0;
    }
    taken(bytes, len);
}

/* One byte of the second slot set to another value: taken, or refused with that word. */
static void slot_byte(enum slot_type type, size_t at, uint8_t value, const char *word)
{
    struct header h = header_of(2, SLOT_PASSPHRASE);
    uint8_t bytes[HEADER_MAX];
    size_t len;

    h.slots[1] = slot_of(type, 1);
    len = bytes_of(&h, bytes);
    taken(bytes, len);
    bytes[AT_SLOTS + SLOT + at] = value;
    if (word)
        refused(bytes, len, word, ERR_DAMAGED);
    else
        taken(bytes, len);
}

static void a_slot_of_unknown_type_or_in_another_place_is_refused(void **state)
{
    (void)state;
    for (int type = 4; type < 256; type++)
        slot_byte(SLOT_PASSPHRASE, IN_TYPE, (uint8_t)type, "altered-header");
    for (int index = 0; index < 256; index++)
        slot_byte(SLOT_EMPTY, IN_INDEX, (uint8_t)index, index == 1 ? NULL : "altered-header");
}

static void the_zeros_of_a_slot_are_zero(void **state)
{
    static const size_t ALWAYS[] = {IN_Z2, IN_Z2 + 1, IN_Z12, IN_Z12 + 1, IN_Z12 + 2, IN_Z12 + 3};

    (void)state;
    for (int type = SLOT_EMPTY; type <= SLOT_IDENTITY; type++)
        for (size_t i = 0; i < sizeof ALWAYS / sizeof *ALWAYS; i++)
            slot_byte((enum slot_type)type, ALWAYS[i], 1, "altered-header");
    for (int type = SLOT_PASSPHRASE; type <= SLOT_RECOVERY; type++) {
        for (size_t i = 0; i < 32; i++)
            slot_byte((enum slot_type)type, IN_RECIPIENT + i, 0x80, "altered-header");
        for (size_t i = 0; i < 8; i++)
            slot_byte((enum slot_type)type, IN_TAIL + i, 1, "altered-header");
    }
    for (size_t i = 0; i < 16; i++)
        slot_byte(SLOT_IDENTITY, IN_SALT + i, 1, "altered-header");
    for (size_t i = 0; i < 4; i++) {
        slot_byte(SLOT_IDENTITY, IN_OPS + i, 1, "altered-header");
        slot_byte(SLOT_IDENTITY, IN_MEM + i, 1, "altered-header");
    }
    slot_byte(SLOT_IDENTITY, IN_TAIL, 1, NULL); /* a sealed box fills its place */
}

static void an_empty_slot_is_empty_but_for_its_index(void **state)
{
    (void)state;
    for (size_t at = 2; at < SLOT; at++)
        slot_byte(SLOT_EMPTY, at, 1, "altered-header");
}

static void a_label_is_printable_up_to_its_first_zero(void **state)
{
    static const enum slot_type TYPES[] = {SLOT_PASSPHRASE, SLOT_RECOVERY, SLOT_IDENTITY};

    (void)state;
    for (size_t t = 0; t < 3; t++) {
        for (int v = 1; v < 256; v++) /* "a name" has six bytes, then zeros; a byte above 127 is no UTF-8 alone */
            slot_byte(TYPES[t], IN_LABEL + 2, (uint8_t)v, v < 32 || v >= 127 ? "altered-header" : NULL);
        slot_byte(TYPES[t], IN_LABEL + 6, 'x', NULL);
        for (size_t i = 7; i < 32; i++)
            slot_byte(TYPES[t], IN_LABEL + i, 'x', "altered-header");
        slot_byte(TYPES[t], IN_LABEL, 0, "altered-header"); /* its rest is not zero */
    }
}

static void a_label_may_fill_its_place_with_whole_characters(void **state)
{
    struct header h = header_of(1, SLOT_PASSPHRASE);
    uint8_t bytes[HEADER_MAX];

    (void)state;
    memset(h.slots[0].label, 'x', SLOT_LABEL);
    taken(bytes, bytes_of(&h, bytes));
    for (int i = 0; i < SLOT_LABEL; i += 2)
        memcpy(h.slots[0].label + i, "\xc3\xa9", 2);
    taken(bytes, bytes_of(&h, bytes));
    h.slots[0].label[31] = 0; /* half a character at the end */
    refused(bytes, bytes_of(&h, bytes), "altered-header", ERR_DAMAGED);
    memset(h.slots[0].label, 0, SLOT_LABEL); /* none at all */
    taken(bytes, bytes_of(&h, bytes));
}

static const struct {
    uint32_t ops, mem;
    bool valid;
} COSTS[] = {
    {1, 8192, true},       {0, 8192, false},     {16, 8192, true},      {17, 8192, false},
    {1, 8191, false},      {1, 0, false},        {1, 1048576, true},    {1, 1048577, false},
    {4, 1048576, true},    {5, 1048576, false},  {16, 262144, true},    {16, 262145, false},
    {3, 65536, true},      {0, 0, false},        {0xffffffff, 0xffffffff, false},
    {0x10000, 0x10000, false}, /* the product is 2^32 */
    {16, 0x80000001, false},
};

static void costs_are_taken_within_their_limits_only(void **state)
{
    static const enum slot_type TYPES[] = {SLOT_PASSPHRASE, SLOT_RECOVERY};

    (void)state;
    for (size_t i = 0; i < sizeof COSTS / sizeof *COSTS; i++) {
        assert_int_equal(!header_cost_valid(COSTS[i].ops, COSTS[i].mem), !COSTS[i].valid);
        for (size_t t = 0; t < 2; t++) {
            struct header h = header_of(2, SLOT_EMPTY);
            uint8_t bytes[HEADER_MAX];
            size_t len;

            h.slots[1] = slot_of(TYPES[t], 1);
            h.slots[1].ops = COSTS[i].ops;
            h.slots[1].mem_kib = COSTS[i].mem;
            len = bytes_of(&h, bytes);
            if (COSTS[i].valid)
                taken(bytes, len);
            else
                refused(bytes, len, "kdf-limit", ERR_DAMAGED);
        }
    }
}

static void an_altered_slot_is_named_before_its_cost(void **state)
{
    struct header h = header_of(1, SLOT_PASSPHRASE);
    uint8_t bytes[HEADER_MAX];
    size_t len;

    (void)state;
    h.slots[0].ops = 99;
    len = bytes_of(&h, bytes);
    refused(bytes, len, "kdf-limit", ERR_DAMAGED);
    bytes[AT_SLOTS + IN_TAIL] = 1;
    refused(bytes, len, "altered-header", ERR_DAMAGED);
}

/* So no byte of a header is without meaning, and nothing can be hidden in one. */
static void what_is_taken_is_written_back_byte_for_byte(void **state)
{
    uint64_t seed = 77;
    unsigned kept = 0, thrown = 0;

    (void)state;
    for (int round = 0; round < 200000; round++) {
        unsigned n = 1 + (unsigned)(unit_random(&seed) % 8);
        struct header h = header_of(n, (enum slot_type)(unit_random(&seed) % 4)), back;
        uint8_t bytes[HEADER_MAX], again[HEADER_MAX];
        size_t len = bytes_of(&h, bytes), at = 12 + (size_t)(unit_random(&seed) % (len - 60));
        struct err e;

        if (at == AT_NSLOTS) /* header_length has checked it before */
            continue;
        bytes[at] = (uint8_t)(bytes[at] ^ (1 + unit_random(&seed) % 255));
        if (header_parse(bytes, len, &back, &e) < 0) {
            thrown++;
            continue;
        }
        kept++;
        assert_int_equal(bytes_of(&back, again), len);
        if (memcmp(bytes, again, len) != 0)
            fail_msg("byte %zu of a header of %u slots is taken and dropped", at, n);
    }
    assert_true(kept > 10000 && thrown > 10000);
}

static void an_end_mark_fits_one_length_only(void **state)
{
    static const uint64_t SIZES[] = {0, 1, 255, 65536, 0xffffffff, 0x100000000, UINT64_MAX};
    uint8_t mark[END_MARK];

    (void)state;
    end_mark_format(0x0102030405060708, mark);
    assert_memory_equal(mark, "TPV\r\nEND\x08\x07\x06\x05\x04\x03\x02\x01", 16);
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        end_mark_format(SIZES[i], mark);
        assert_true(end_mark_valid(mark, SIZES[i]));
        assert_false(end_mark_valid(mark, SIZES[i] + 1));
        assert_false(end_mark_valid(mark, SIZES[i] ^ 1ull << 63));
        for (size_t at = 0; at < END_MARK; at++) {
            mark[at] ^= 0x20;
            assert_false(end_mark_valid(mark, SIZES[i]));
            mark[at] ^= 0x20;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_length_follows_the_number_of_slots),
        cmocka_unit_test(every_field_stands_where_the_format_says),
        cmocka_unit_test(a_header_comes_back_as_it_was_with_any_number_of_slots),
        cmocka_unit_test(the_prefix_tells_the_length_or_why_there_is_none),
        cmocka_unit_test(a_newer_version_is_told_from_a_damaged_one),
        cmocka_unit_test(only_the_right_pair_of_length_and_slots_is_taken),
        cmocka_unit_test(a_length_that_is_not_the_headers_own_is_refused),
        cmocka_unit_test(suite_compression_and_flags_have_one_meaning_each),
        cmocka_unit_test(a_slot_of_unknown_type_or_in_another_place_is_refused),
        cmocka_unit_test(the_zeros_of_a_slot_are_zero),
        cmocka_unit_test(an_empty_slot_is_empty_but_for_its_index),
        cmocka_unit_test(a_label_is_printable_up_to_its_first_zero),
        cmocka_unit_test(a_label_may_fill_its_place_with_whole_characters),
        cmocka_unit_test(costs_are_taken_within_their_limits_only),
        cmocka_unit_test(an_altered_slot_is_named_before_its_cost),
        cmocka_unit_test(what_is_taken_is_written_back_byte_for_byte),
        cmocka_unit_test(an_end_mark_fits_one_length_only),
    };

    return cmocka_run_group_tests_name("header", tests, NULL, NULL);
}
