package androidx.test.internal.platform;

/** Stands in for the class of androidx.test; see README.md. */
public interface ThreadChecker {
    void checkMainThread();

    void checkNotMainThread();
}
