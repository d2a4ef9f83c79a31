package androidx.test.runner.lifecycle;

/** Stands in for the class of androidx.test; see README.md. */
public enum ApplicationStage {
    PRE_ON_CREATE, CREATED
}
