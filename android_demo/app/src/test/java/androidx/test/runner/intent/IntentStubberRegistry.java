package androidx.test.runner.intent;

/** Stands in for the class of androidx.test; see README.md. */
public final class IntentStubberRegistry {
    private IntentStubberRegistry() {}

    public static boolean isLoaded() {
        return false;
    }

    public static IntentStubber getInstance() {
        throw new IllegalStateException("no stubber");
    }
}
