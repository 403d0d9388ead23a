/* number - decimal digits of a string as a value.
 *
 * In place of strtol, which takes blanks, signs and other bases, and a kilobyte and a half of code.
 * No allocation; any context. */
#ifndef TAZPOD_NUMBER_H
#define TAZPOD_NUMBER_H

#include <stdint.h>

/* Reads the digits at *text and moves *text behind them. -1 where there is none, or where the value
 * is above most; *text then stands anywhere. most: less than INT64_MAX / 10. */
int64_t number_read(const char **text, int64_t most);

#endif
