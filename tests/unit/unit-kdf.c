/* unit-kdf - the data key under a passphrase. */
#include <sodium.h>
#include <string.h>

#include "../../vault/kdf.h"
#include "unit.h"

enum { OPS = 1, MEM = 8 * 1024 }; /* the least that is accepted */

static const uint8_t ID[VAULT_ID] = "a vault's number";

static struct secret secret_of(const char *text)
{
    struct secret s;

    assert_int_equal(secret_new(&s, strlen(text) + 1), 0);
    s.len = strlen(text);
    memcpy(s.data, text, s.len);
    return s;
}

struct keys {
    struct secret passphrase, key, back;
    struct slot slot;
};

static int set_up(void **state)
{
    static struct keys k;
    struct err e;

    k.passphrase = secret_of("correct horse");
    assert_int_equal(secret_new(&k.key, DATA_KEY), 0);
    assert_int_equal(secret_new(&k.back, DATA_KEY), 0);
    kdf_new_key(&k.key);
    assert_int_equal(kdf_wrap(&k.slot, SLOT_PASSPHRASE, 2, "passphrase", OPS, MEM, ID, &k.passphrase, &k.key, &e), 0);
    *state = &k;
    return 0;
}

static int tear_down(void **state)
{
    struct keys *k = *state;

    secret_free(&k->passphrase);
    secret_free(&k->key);
    secret_free(&k->back);
    return 0;
}

static void a_passphrase_opens_what_it_closed(void **state)
{
    struct keys *k = *state;
    struct err e;

    assert_int_equal(kdf_unwrap(&k->slot, ID, &k->passphrase, &k->back, &e), 1);
    assert_int_equal(k->back.len, DATA_KEY);
    assert_true(secret_equal(&k->key, &k->back));
}

static void a_wrong_passphrase_opens_nothing(void **state)
{
    static const char *const WRONG[] = {"correct hors", "correct horse ", "Correct horse", "x"};
    struct keys *k = *state;
    struct err e;

    memset(k->back.data, 0, DATA_KEY);
    k->back.len = 0;
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        struct secret wrong = secret_of(WRONG[i]);

        assert_int_equal(kdf_unwrap(&k->slot, ID, &wrong, &k->back, &e), 0);
        secret_free(&wrong);
    }
    assert_int_equal(k->back.len, 0);
    assert_true(sodium_is_zero(k->back.data, DATA_KEY));
}

static void a_slot_is_what_was_asked_for(void **state)
{
    const struct keys *k = *state;
    const struct slot *s = &k->slot;

    assert_int_equal(s->type, SLOT_PASSPHRASE);
    assert_int_equal(s->index, 2);
    assert_int_equal(s->ops, OPS);
    assert_int_equal(s->mem_kib, MEM);
    assert_string_equal((const char *)s->label, "passphrase");
    assert_true(sodium_is_zero(s->label + 10, SLOT_LABEL - 10));
    assert_true(sodium_is_zero(s->recipient, SLOT_RECIPIENT));
    assert_true(sodium_is_zero(s->wrapped + 72, 8));
    assert_false(sodium_is_zero(s->salt, SLOT_SALT));
}

static void a_long_label_is_cut_to_its_place(void **state)
{
    struct keys *k = *state;
    struct slot s;
    struct err e;

    assert_int_equal(kdf_wrap(&s, SLOT_PASSPHRASE, 0, "0123456789012345678901234567890123456789", OPS, MEM, ID, &k->passphrase, &k->key,
                              &e), 0);
    assert_memory_equal(s.label, "01234567890123456789012345678901", SLOT_LABEL);
}

/* One field changed at a time. What is bound by the commitment is told as a wrong passphrase, before
 * anything is decrypted; the wrapped key itself as altered. */
static void a_slot_opens_as_it_was_made_and_no_other_way(void **state)
{
    struct keys *k = *state;
    struct slot s;
    struct err e = {0};
    uint8_t id[VAULT_ID];

    memcpy(id, ID, sizeof id);
    id[0] ^= 1;
    assert_int_equal(kdf_unwrap(&k->slot, id, &k->passphrase, &k->back, &e), 0);
    for (int field = 0; field < 8; field++) {
        s = k->slot;
        switch (field) {
        case 0: s.index = 3; break;
        case 1: s.ops = 2; break;
        case 2: s.mem_kib = MEM + 1; break;
        case 3: s.salt[15] ^= 1; break;
        case 4: s.label[0] ^= 1; break;
        case 5: s.recipient[31] ^= 1; break;
        case 6: s.type = SLOT_RECOVERY; break;
        default: s.commit[23] ^= 1;
        }
        if (kdf_unwrap(&s, ID, &k->passphrase, &k->back, &e) != 0)
            fail_msg("field %d changed, and the slot opens or fails", field);
    }
}

static void a_changed_wrap_is_told_as_altered(void **state)
{
    struct keys *k = *state;

    for (size_t at = 0; at < 72; at += 8) {
        struct slot s = k->slot;
        struct err e = {0};

        s.wrapped[at] ^= 1;
        assert_int_equal(kdf_unwrap(&s, ID, &k->passphrase, &k->back, &e), -1);
        assert_string_equal(e.word, "altered-header");
        assert_int_equal(e.code, ERR_DAMAGED);
    }
}

static void the_same_passphrase_makes_another_slot_each_time(void **state)
{
    struct keys *k = *state;
    struct slot s;
    struct err e;

    assert_int_equal(kdf_wrap(&s, SLOT_PASSPHRASE, 2, "passphrase", OPS, MEM, ID, &k->passphrase, &k->key, &e), 0);
    assert_memory_not_equal(s.salt, k->slot.salt, SLOT_SALT);
    assert_memory_not_equal(s.wrapped, k->slot.wrapped, 24); /* the nonce */
    assert_memory_not_equal(s.wrapped + 24, k->slot.wrapped + 24, 48);
    assert_memory_not_equal(s.commit, k->slot.commit, SLOT_COMMIT);
    assert_int_equal(kdf_unwrap(&s, ID, &k->passphrase, &k->back, &e), 1);
    assert_true(secret_equal(&k->key, &k->back));
}

static void new_keys_differ(void **state)
{
    struct keys *k = *state;

    memcpy(k->back.data, k->key.data, DATA_KEY);
    k->back.len = DATA_KEY;
    kdf_new_key(&k->back);
    assert_int_equal(k->back.len, DATA_KEY);
    assert_false(secret_equal(&k->key, &k->back));
}

static void any_bytes_make_a_passphrase(void **state)
{
    struct keys *k = *state;
    struct secret p;
    struct slot s;
    struct err e;

    assert_int_equal(secret_new(&p, PASSPHRASE_MAX), 0);
    p.len = PASSPHRASE_MAX;
    unit_fill(p.data, p.len, 5);
    p.data[3] = '\0'; /* the opener refuses these; what derives a key does not stop at one */
    assert_int_equal(kdf_wrap(&s, SLOT_PASSPHRASE, 0, "x", OPS, MEM, ID, &p, &k->key, &e), 0);
    assert_int_equal(kdf_unwrap(&s, ID, &p, &k->back, &e), 1);
    p.data[PASSPHRASE_MAX - 1] ^= 1;
    assert_int_equal(kdf_unwrap(&s, ID, &p, &k->back, &e), 0);
    secret_free(&p);
}

/* Every step of docs/vault-format.md, section 2, done once more with the library's plain calls. */
static void a_slot_is_what_the_format_says(void **state)
{
    struct keys *k = *state;
    const struct slot *s = &k->slot;
    uint8_t k64[64], bound[HEADER_SLOT], ctx[3 + 16 + 96], text[11 + sizeof ctx], commit[24], key[32];

    header_slot_format(s, bound);
    memcpy(ctx, "\x01\x01\x00", 3);
    memcpy(ctx + 3, ID, 16);
    memcpy(ctx + 19, bound, 96);
    assert_int_equal(crypto_pwhash(k64, 64, "correct horse", 13, s->salt, OPS, (size_t)MEM * 1024,
                                   crypto_pwhash_ALG_ARGON2ID13), 0);
    memcpy(text, "vault1 slot", 11);
    memcpy(text + 11, ctx, sizeof ctx);
    crypto_generichash(commit, 24, text, sizeof text, k64 + 32, 32);
    assert_memory_equal(commit, s->commit, 24);
    memcpy(text, "vault1 wrap", 11);
    assert_int_equal(crypto_aead_xchacha20poly1305_ietf_decrypt(key, NULL, NULL, s->wrapped + 24, 48, text, sizeof text,
                                                                s->wrapped, k64), 0);
    assert_memory_equal(key, k->key.data, 32);
}

static void secrets_compare_by_content_and_length(void **state)
{
    struct secret a = secret_of("same"), b = secret_of("same"), c = secret_of("sam"), d = secret_of("sane");
    struct secret none = {0};

    (void)state;
    assert_true(secret_equal(&a, &b));
    assert_false(secret_equal(&a, &c));
    assert_false(secret_equal(&a, &d));
    assert_true(secret_equal(&none, &none));
    secret_free(&a);
    assert_null(a.data);
    assert_int_equal(a.len, 0);
    secret_free(&a); /* twice is harmless */
    secret_free(&b);
    secret_free(&c);
    secret_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_passphrase_opens_what_it_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wrong_passphrase_opens_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slot_is_what_was_asked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_label_is_cut_to_its_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slot_opens_as_it_was_made_and_no_other_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_changed_wrap_is_told_as_altered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_same_passphrase_makes_another_slot_each_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(new_keys_differ, set_up, tear_down),
        cmocka_unit_test_setup_teardown(any_bytes_make_a_passphrase, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slot_is_what_the_format_says, set_up, tear_down),
        cmocka_unit_test(secrets_compare_by_content_and_length),
    };

    if (secret_init() < 0)
        return 1;
    return cmocka_run_group_tests_name("kdf", tests, NULL, NULL);
}
