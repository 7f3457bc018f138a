/* A worker in C. The header is the one that a C program would include. */
#include "library.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* The compiler compares it with the definition below. */
bgw_main c_worker;

int c_worker(const struct bgw_context *me)
{
    char text[200];
    if (me->abi != BGW_ABI || me->size != sizeof *me)
        return 2;
    snprintf(text, sizeof text, "C worker %s/%s: %llu, %d, %zu functions", me->name, me->type,
             (unsigned long long)me->main_arg, me->extra[127], me->functions_len);
    me->log(3, text);
    int conn = me->take("conn");
    if (conn < 0 || write(conn, "from C", 6) != 6 || close(conn) != 0)
        return 5;
    if (me->take("conn") != -EAGAIN || me->take("other") != -ENOENT)
        return 6;
    if (me->unblock_signals() != 0)
        return 3;
    me->ready();
    while (!me->should_stop())
        if (me->wait(-1) < 0)
            return 4;
    return 0;
}

bgw_main c_gives;

/* Gives back a result if its argument is 0, else the reason why not. */
int c_gives(const struct bgw_context *me)
{
    char long_text[129] = {0};
    if (me->set_result(long_text, sizeof long_text) != -1 || me->set_result(NULL, 0) != -1)
        return 2;
    if (me->set_result("coffee", 6) != 0 || me->set_result("tea", 3) != 0)
        return 3;
    if (me->main_arg != 0) {
        me->fail("no more tea");
        me->fail("and no coffee");
    }
    return (int)me->main_arg;
}

bgw_main c_silent;

int c_silent(const struct bgw_context *me)
{
    (void)me;
    return 7;
}
