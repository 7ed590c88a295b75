/*
 * folder_watch.h - a wait that ends early when a file of a folder has been replaced or written (inotify).
 *
 * It only makes somebody look sooner: where there is no inotify, or the folder goes, the wait lasts its time, and whoever
 * waits looks then, as always. Files that stay open and grow do not end it.
 */
#ifndef WAXSEAL_FOLDER_WATCH_H
#define WAXSEAL_FOLDER_WATCH_H

#include <stdbool.h>

int folder_watch_open(const char *file); /* of the folder that holds it; a descriptor, or -1: there will be no early end */
bool folder_watch_wait(int watch, unsigned timeout_us); /* true: something was written there */

#endif
