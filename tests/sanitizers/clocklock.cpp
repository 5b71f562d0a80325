// std::timed_mutex waits by pthread_mutex_clocklock(), which the thread sanitizer of GCC 12 does not know: it would
// miss these locks and report their unlocking. Preloaded, this waits by a call that it does know, by the real time's
// clock.
#include <pthread.h>
#include <time.h>

extern "C" int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock, const struct timespec* until) {
  constexpr long second = 1'000'000'000;
  timespec now, real;
  clock_gettime(clock, &now);
  clock_gettime(CLOCK_REALTIME, &real);
  real.tv_sec += until->tv_sec - now.tv_sec;
  real.tv_nsec += until->tv_nsec - now.tv_nsec;
  if (real.tv_nsec < 0) real.tv_nsec += second, --real.tv_sec;
  if (real.tv_nsec >= second) real.tv_nsec -= second, ++real.tv_sec;
  return pthread_mutex_timedlock(mutex, &real);
}
