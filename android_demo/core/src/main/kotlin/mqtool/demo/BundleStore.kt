package mqtool.demo

import mqruntime.Bundle
import mqruntime.BundleError
import mqruntime.MqError
import java.io.File
import java.io.IOException
import java.io.InputStream

/** No room for a bundle. */
class StorageFull(message: String) : MqError(message)

/**
 * The bundles in app-private storage. Each was checked when it came in, and is checked again by
 * [Bundle.open] whenever it is opened.
 *
 * @param folder where they are; made if it is missing. Copies that a killed process left are removed.
 * @param freeBytes room on the folder's disk.
 */
class BundleStore(private val folder: File, private val freeBytes: () -> Long = { folder.usableSpace }) {
    /** How far a copy is: [done] of [total] bytes copied, or checked; [total] is null if not known. */
    data class Progress(val step: Step, val done: Long, val total: Long?)

    enum class Step { COPY, CHECK }

    init {
        folder.mkdirs()
        folder.listFiles()?.filter { it.name.endsWith(PARTIAL) }?.forEach(File::delete)
    }

    /** Bundles that are here, by name. */
    fun list(): List<File> =
        folder.listFiles()?.filter { it.isFile && it.name.endsWith(SUFFIX) }?.sortedBy { it.name }.orEmpty()

    /**
     * Copy a bundle in and check every byte. It appears only when that is done; a bundle of the same
     * name is replaced.
     *
     * @param name a file name, as a person chose it.
     * @param source read to its end, in pieces; closed.
     * @param length its bytes, if known.
     * @param onProgress may throw to stop, which leaves nothing behind.
     * @throws BundleError it is not a bundle, or is damaged.
     * @throws StorageFull there is not enough room.
     */
    fun import(name: String, source: InputStream, length: Long? = null, onProgress: (Progress) -> Unit = {}): File {
        val target = File(folder, fileName(name))
        val partial = File(folder, target.name + PARTIAL)
        try {
            source.use { copy(target.name, it, partial, length, onProgress) }
            Bundle.open(partial) { done, total -> onProgress(Progress(Step.CHECK, done, total)) }
            if (!partial.renameTo(target)) throw BundleError("${target.name}: cannot be stored; try again")
            return target
        } catch (error: BundleError) {
            throw BundleError(error.message.replace(partial.path, target.name))
        } finally {
            partial.delete()
        }
    }

    /** Remove a bundle. */
    fun remove(bundle: File) {
        if (bundle.parentFile == folder) bundle.delete()
    }

    private fun copy(name: String, source: InputStream, partial: File, length: Long?, onProgress: (Progress) -> Unit) {
        if (length != null) checkRoom(name, length)
        val chunk = ByteArray(CHUNK)
        var done = 0L
        try {
            partial.outputStream().use { target ->
                while (true) {
                    val count = source.read(chunk)
                    if (count < 0) break
                    if (length == null) checkRoom(name, count.toLong())
                    target.write(chunk, 0, count)
                    done += count
                    onProgress(Progress(Step.COPY, done, length))
                }
                target.fd.sync()
            }
        } catch (error: IOException) {
            if (freeBytes() < RESERVE) throw full(name, CHUNK.toLong())
            throw BundleError("$name: cannot be copied (${error.message}); try again")
        }
    }

    private fun checkRoom(name: String, wanted: Long) {
        if (freeBytes() < wanted + RESERVE) throw full(name, wanted)
    }

    private fun full(name: String, wanted: Long): StorageFull {
        val missing = (wanted + RESERVE - freeBytes()).coerceAtLeast(1)
        return StorageFull("$name: storage is full; free ${(missing + MB - 1) / MB} MB and try again")
    }

    companion object {
        const val SUFFIX = ".mqz"
        private const val PARTIAL = ".partial"
        private const val CHUNK = 1 shl 18
        private const val MB = 1_000_000L
        private const val RESERVE = 4 * MB

        /** A name that can do no harm: letters, digits, dots, dashes and underlines, ending in .mqz. */
        fun fileName(name: String): String {
            val last = name.substringAfterLast('/').substringAfterLast('\\').removeSuffix(SUFFIX)
            val safe = last.map { if (it.isLetterOrDigit() && it.code < 128 || it in "-_.") it else '_' }
            return safe.joinToString("").trimStart('.').take(80).ifEmpty { "model" } + SUFFIX
        }
    }
}
