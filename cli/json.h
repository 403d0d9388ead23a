/* json - a writer for one flat object, or one with objects and lists of objects in it.
 *
 * Keys are ours and plain; values are escaped. Bytes that are not UTF-8 become U+FFFD, so that the
 * output is JSON whatever a file name holds. Writes to a stdio stream; errors are the stream's. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *to;
    bool more; /* a comma is due */
};

/* key NULL: the outermost one. */
void json_open(struct json *j, const char *key);
void json_close(struct json *j);

/* A list, of objects that are opened without a key. */
void json_list(struct json *j, const char *key);
void json_list_end(struct json *j);

void json_text(struct json *j, const char *key, const char *value); /* value NULL: null */
void json_number(struct json *j, const char *key, int64_t value);
void json_bool(struct json *j, const char *key, bool value);

#endif
