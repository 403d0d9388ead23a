/* unit - what the unit tests share: cmocka, a directory for one test, a stream of numbers.
 *
 * Test programs only. A helper that can't do its work fails the test that called it. */
#ifndef TAZPOD_UNIT_H
#define TAZPOD_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Gives up every capability. What is tested here runs as an ordinary user, and a file's mode means
 * nothing to a root that has kept them. Called first in main. */
void unit_drop_root(void);

/* A new empty directory, 0700: in RAM (tmpfs), or wherever temporary files go. The caller hands
 * it back to unit_remove, which deletes it with all it holds, whatever the modes in it. */
char *unit_dir(bool in_ram);
void unit_remove(char *dir);

/* "DIR/NAME" in one of a few static buffers, good until some more calls. */
const char *unit_path(const char *dir, const char *name);

/* Writes a whole file; reads one back, zero-terminated, into buf. */
void unit_write(const char *path, const void *bytes, size_t len);
size_t unit_read(const char *path, void *buf, size_t size);

/* Descriptors open in this process. */
int unit_open_files(void);

/* The same numbers in every run (splitmix64), so that what fails once fails again. */
uint64_t unit_random(uint64_t *seed);
void unit_fill(void *bytes, size_t len, uint64_t seed);

#endif
