/* dir - the names in a directory, without the C library's allocated stream.
 *
 * PID 1 only; 4 KiB of stack; no allocation. */
#ifndef TAZPOD_DIR_H
#define TAZPOD_DIR_H

/* Calls `each` for every name but . and .., from the beginning, until it answers non-zero, which is
 * returned. 0 at the end, -1 with errno when the directory can't be read. */
int dir_each(int fd, int (*each)(void *ctx, const char *name), void *ctx);

#endif
