/* kdf PASSES KIB - one key derivation and nothing else: prints the nanoseconds it took.
 *
 * What an unlock can't be faster than, since the cost is the vault's protection. A process of its
 * own for each, as the opener is one: its memory is new, so every page is faulted in again. Static,
 * with the same library as tazpod. Start of the process and of the library are not counted. */
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "page.h"

int main(int argc, char **argv)
{
    static const char passphrase[] = "correct horse battery staple";
    uint8_t salt[crypto_pwhash_SALTBYTES], key[64];
    unsigned long long passes, kib;
    uint64_t start;

    if (argc != 3 || sodium_init() < 0)
        return 2;
    passes = strtoull(argv[1], NULL, 10);
    kib = strtoull(argv[2], NULL, 10);
    randombytes_buf(salt, sizeof salt);
    start = page_now();
    if (crypto_pwhash(key, sizeof key, passphrase, strlen(passphrase), salt, passes, (size_t)kib * 1024,
                      crypto_pwhash_ALG_ARGON2ID13) != 0) {
        (void)fprintf(stderr, "bench-kdf: no derivation with %s passes and %s KiB\n", argv[1], argv[2]);
        return 1;
    }
    printf("%" PRIu64 "\n", page_now() - start);
    return 0;
}
