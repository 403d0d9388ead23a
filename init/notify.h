/* notify - tells a service manager how far this is, where NOTIFY_SOCKET names one.
 *
 * sd_notify(3)'s protocol: one datagram. Never waits, never fails: who does not listen is not told. */
#ifndef TAZPOD_NOTIFY_H
#define TAZPOD_NOTIFY_H

/* state: "READY=1", "STOPPING=1". */
void notify(const char *state);

#endif
