#include "number.h"

int64_t number_read(const char **text, int64_t most)
{
    const char *begin = *text;
    int64_t v = 0;

    for (; **text >= '0' && **text <= '9'; (*text)++) {
        v = 10 * v + (**text - '0');
        if (v > most)
            return -1;
    }
    return *text == begin ? -1 : v;
}
