/* save - what a save, also that of a lock, has to say beside its success. */
#ifndef CLI_SAVE_H
#define CLI_SAVE_H

#include "../init/protocol.h"

/* On stderr: what was skipped, and whether the file had to be written anew. */
void save_say_notes(const struct wire_status *s);

#endif
