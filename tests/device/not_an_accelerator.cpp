// A shared library without the entry point.
extern "C" int thresher_nothing();
extern "C" int thresher_nothing() { return 0; }
