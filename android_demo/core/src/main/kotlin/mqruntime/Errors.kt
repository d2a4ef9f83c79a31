package mqruntime

// The exception tree. Every message names the thing, the bad value and the way out.

/** Anything mqruntime refuses to do; `message` is one line for a person, whatever names are in it. */
open class MqError(message: String, cause: Throwable? = null) : Exception(printable(message, kept = ""), cause) {
    override val message: String get() = super.message!!
}

/** A recording that cannot be read or used. */
class AudioError(message: String) : MqError(message)

/** A model folder or graph that cannot be opened or run. */
open class ModelError(message: String, cause: Throwable? = null) : MqError(message, cause)

/** A `model.json` that is missing, malformed or from another format version. */
class ManifestError(message: String) : ModelError(message)

/** An .mqz file that is not exactly as it was written. */
open class BundleError(message: String) : ModelError(message)

/** Recognition that its caller has cancelled. */
class CancelledError(message: String) : MqError(message)

/** A bundle that is not signed with the key it must be signed with, or no way to tell. */
class SignatureError(message: String) : BundleError(message)
