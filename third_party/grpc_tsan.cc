// Debian's gRPC is not instrumented, so ThreadSanitizer does not see how it hands an operation from the thread that
// begins it to the one that learns of its end. What its headers do with it in between looks like a race; the code that
// is called back is not meant by this.
#if defined(__SANITIZE_THREAD__)
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:grpc::internal::CallOp\n"; }
#endif
