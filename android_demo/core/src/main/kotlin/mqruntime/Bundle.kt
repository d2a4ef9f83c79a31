package mqruntime

import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.Paths
import java.security.GeneralSecurityException
import java.security.KeyFactory
import java.security.MessageDigest
import java.security.NoSuchAlgorithmException
import java.security.PublicKey
import java.security.Signature
import java.security.spec.X509EncodedKeySpec
import java.util.Base64
import java.util.Locale
import java.util.zip.CRC32

/** Length in bytes and SHA-256 in lowercase hexadecimal of an entry's data. */
data class StoredData(val length: Long, val sha256: String)

/**
 * An entry: its name, length in bytes and SHA-256 in lowercase hexadecimal.
 *
 * @property stored of its data, where that is coded.
 */
data class BundledFile(val name: String, val length: Long, val sha256: String, val stored: StoredData? = null) {
    /** What is in the bundle. */
    val data: StoredData get() = stored ?: StoredData(length, sha256)
}

/**
 * An input or output of a graph.
 *
 * @property dtype as ONNX spells it in lower case: float, int64, ...
 * @property shape lengths; names stand for lengths that may vary.
 */
data class ValueInterface(val name: String, val dtype: String, val shape: List<Any>)

/** What a graph takes and gives, and the versions a runtime must know to read it. */
data class GraphInterface(
    val opset: Long,
    val irVersion: Long,
    val inputs: List<ValueInterface>,
    val outputs: List<ValueInterface>,
)

/** The contents of manifest.json; fields are described at the top of `mqruntime/bundle/file.py`. */
data class BundleManifest(
    val model: Manifest,
    val graphs: Map<String, GraphInterface>,
    val files: List<BundledFile>,
    val modelBytes: Long,
    val budgetBytes: Long?,
    val planSha256: String?,
    val calibrationSha256: String?,
    val golden: String?,
    val tool: String,
    /** The JSON value of `model`. */
    internal val modelJson: Any?,
) {
    companion object {
        /**
         * Read and check the entry's bytes.
         *
         * @throws IllegalArgumentException not JSON, another format, a field that is missing, unknown
         *     or wrong, or another spelling than [canonicalJson].
         */
        fun parse(content: ByteArray): BundleManifest {
            val value = parseJson(content)
            val format = (value as? Map<*, *>)?.get("format")
            require(format == Bundle.FORMAT || format == Bundle.CODED_FORMAT) {
                "its format is $format, this version of mqruntime reads ${Bundle.FORMAT} and " +
                    "${Bundle.CODED_FORMAT}, and a newer one may read it"
            }
            val fields = Fields(value)
            val model = fields.fields("model")
            val manifest = BundleManifest(
                Manifest.of(model),
                fields.fieldsMap("graphs").mapValues { graphInterface(it.value) },
                fields.fieldsList("files").map { bundledFile(it, format == Bundle.CODED_FORMAT) },
                fields.long("model_bytes"),
                fields.optionalLong("budget_bytes"),
                fields.optionalString("plan_sha256"),
                fields.optionalString("calibration_sha256"),
                fields.optionalString("golden"),
                fields.string("tool"),
                value["model"],
            )
            fields.long("format")
            fields.done()
            require(manifest.model.format == format) { "its format is $format, its model's ${manifest.model.format}" }
            require(model.lacking.isEmpty() && canonicalJson(value).contentEquals(content)) {
                "it is not spelled as mqtool writes it"
            }
            return manifest
        }

        private fun bundledFile(fields: Fields, isCoded: Boolean) = BundledFile(
            fields.string("name"),
            fields.long("length"),
            fields.string("sha256"),
            if (isCoded) fields.optionalFields("stored")?.let(::storedData) else null,
        ).also { fields.done() }

        private fun storedData(fields: Fields) =
            StoredData(fields.long("length"), fields.string("sha256")).also { fields.done() }

        private fun graphInterface(fields: Fields) = GraphInterface(
            fields.long("opset"),
            fields.long("ir_version"),
            fields.fieldsList("inputs").map(::valueInterface),
            fields.fieldsList("outputs").map(::valueInterface),
        ).also { fields.done() }

        private fun valueInterface(fields: Fields) =
            ValueInterface(fields.string("name"), fields.string("dtype"), fields.lengths("shape")).also { fields.done() }
    }
}

/**
 * A bundle whose every byte has been checked: a model folder in one file, app.mqz, which
 * `mqruntime/bundle/file.py` describes. Made by [open].
 *
 * @property path the file.
 * @property manifest its manifest.json.
 * @property signed whether it carries a signature (which [open] checks only against a key).
 * @property isVerified whether it was checked against a key.
 */
class Bundle private constructor(
    val path: File,
    val manifest: BundleManifest,
    entries: List<StoredZip.Entry>,
    private val content: Map<String, ByteBuffer>,
    val isVerified: Boolean,
) {
    private val entries = entries.associateBy { it.name }
    val signed: Boolean get() = SIGNATURE_NAME in entries

    /** Of all entries. */
    val names: List<String> get() = entries.keys.toList()

    /**
     * An entry's data as stored: mapped from the file, not on the heap.
     *
     * @throws BundleError there is no such entry.
     */
    fun read(name: String): ByteBuffer =
        content[name]?.duplicate() ?: throw BundleError("$path: holds no '$name'; package the model again")

    /** The coded weights in an entry, as the manifest's `model` lists them. */
    fun stream(name: String): CodedStream {
        val sha256 = if (isVerified) manifest.files.first { it.name == name }.sha256 else null
        return CodedStream(read(name), manifest.model.coded.getValue(name), entries.getValue(name).crc32, sha256)
    }

    /** A small entry's data. */
    fun bytes(name: String): ByteArray = read(name).let { buffer -> ByteArray(buffer.remaining()).also(buffer::get) }

    companion object {
        const val FORMAT = 1L
        const val CODED_FORMAT = 2L
        const val MANIFEST_NAME = "manifest.json"
        const val SIGNATURE_NAME = "manifest.sig"
        const val GOLDEN_FOLDER = "golden/"
        private const val MAX_MANIFEST = 1 shl 20
        private const val SIGNATURE_LENGTH = 64
        private const val CHUNK = 1 shl 20
        private const val OTHERS_WRITE = 0x12 // of the group, of all
        private val NAME = Regex("(golden/)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
        private val PEM = Regex("-----BEGIN PUBLIC KEY-----(.*)-----END PUBLIC KEY-----", RegexOption.DOT_MATCHES_ALL)

        /**
         * Check a bundle and open it.
         *
         * @param path the .mqz file.
         * @param publicKey PEM text of the Ed25519 key it must be signed with; null does not look at
         *     the signature.
         * @param onProgress called with the bytes checked so far and their total; may throw to stop.
         * @throws BundleError it cannot be read, or anything in it is not as it was written.
         * @throws SignatureError it is not signed with that key, or that cannot be told here.
         */
        fun open(path: File, publicKey: String? = null, onProgress: (Long, Long) -> Unit = { _, _ -> }): Bundle {
            try {
                return safe(path, copy = publicKey != null).use { file ->
                    val entries = StoredZip.readEntries(file)
                    checkNames(entries)
                    val manifest = checkedManifest(path, file, entries, publicKey)
                    checkFiles(file, entries, manifest, onProgress)
                    checkModel(file, entries, manifest)
                    // What was checked is what is used: the same open file, whatever its name is now.
                    val content = entries.associate { it.name to map(file, it) }
                    Bundle(path, manifest, entries, content, isVerified = publicKey != null)
                }
            } catch (error: IOException) {
                throw BundleError("$path: cannot be read (${firstLine(error)})")
            } catch (error: IllegalArgumentException) {
                throw BundleError("$path: ${firstLine(error)}; copy or package it again")
            }
        }

        /**
         * The file, opened, or a private copy if that is wanted or others may write to it.
         *
         * Who writes to a file that is mapped changes what runs after it was checked, and who cuts it off
         * ends the process.
         */
        private fun safe(path: File, copy: Boolean): RandomAccessFile {
            val given = RandomAccessFile(path, "r")
            if (!copy && !othersMayWrite(path)) return given
            given.use {
                val place = File.createTempFile("mqruntime", null)
                try {
                    return RandomAccessFile(place, "rw").also { private -> copy(given, private) }
                } finally {
                    place.delete() // what is open stays
                }
            }
        }

        private fun copy(source: RandomAccessFile, target: RandomAccessFile) {
            try {
                var at = 0L
                while (at < source.length()) {
                    val count = source.channel.transferTo(at, CHUNK.toLong(), target.channel)
                    require(count > 0) { "it is cut off" }
                    at += count
                }
            } catch (error: Exception) {
                target.close()
                throw error
            }
        }

        private fun othersMayWrite(path: File): Boolean = try {
            val attributes = Files.readAttributes(path.toPath(), "unix:mode,uid")
            val own = Files.getAttribute(Paths.get("/proc/self"), "unix:uid")
            attributes["uid"] !in setOf(0, own) || (attributes["mode"] as Int) and OTHERS_WRITE != 0
        } catch (error: UnsupportedOperationException) {
            false // a system without such owners
        } catch (error: IOException) {
            false
        }

        private fun map(file: RandomAccessFile, entry: StoredZip.Entry): ByteBuffer =
            file.channel.map(FileChannel.MapMode.READ_ONLY, entry.data, entry.length)

        /** Whether an entry may be called so. */
        fun isEntryName(name: String): Boolean = NAME.matches(name)

        private fun checkNames(entries: List<StoredZip.Entry>) {
            val seen = HashSet<String>()
            for (entry in entries) {
                require(isEntryName(entry.name)) { "an entry is named '${entry.name}'" }
                require(seen.add(entry.name.lowercase(Locale.ROOT))) { "the entry '${entry.name}' is there twice" }
            }
            require(entries[0].name == MANIFEST_NAME) { "its first entry is '${entries[0].name}', not $MANIFEST_NAME" }
            require(entries[0].length <= MAX_MANIFEST) { "its manifest has ${entries[0].length} bytes, over $MAX_MANIFEST" }
        }

        private fun checkedManifest(
            path: File,
            file: RandomAccessFile,
            entries: List<StoredZip.Entry>,
            publicKey: String?,
        ): BundleManifest {
            val content = readWithCrc(file, entries[0])
            var signature: ByteArray? = null
            if (isSigned(entries)) {
                require(entries[1].length == SIGNATURE_LENGTH.toLong()) {
                    "its signature has ${entries[1].length} bytes"
                }
                signature = readWithCrc(file, entries[1])
            }
            if (publicKey != null) checkSignature(path, content, signature, publicKey)
            return try {
                BundleManifest.parse(content)
            } catch (error: IllegalArgumentException) {
                throw IllegalArgumentException("$MANIFEST_NAME: ${firstLine(error)}", error)
            }
        }

        private fun checkSignature(path: File, content: ByteArray, signature: ByteArray?, publicKey: String) {
            if (signature == null) {
                throw SignatureError("$path: is not signed; package it with --sign, or give no key")
            }
            try {
                val verifier = Signature.getInstance("Ed25519")
                verifier.initVerify(key(publicKey))
                verifier.update(content)
                if (verifier.verify(signature)) return
            } catch (error: NoSuchAlgorithmException) {
                throw SignatureError("$path: its signature cannot be checked, this system lacks Ed25519; give no key")
            } catch (error: GeneralSecurityException) {
                throw SignatureError("$path: its signature cannot be checked (${firstLine(error)})")
            }
            throw SignatureError("$path: is not signed with the given key, or was changed; do not use it")
        }

        private fun key(pem: String): PublicKey {
            val body = PEM.find(pem)?.groupValues?.get(1)
                ?: throw SignatureError("the key is not a public key in PEM; make one with mqtool keygen")
            val encoded = try {
                Base64.getMimeDecoder().decode(body)
            } catch (error: IllegalArgumentException) {
                throw SignatureError("the key is not a public key in PEM (${firstLine(error)})")
            }
            return KeyFactory.getInstance("Ed25519").generatePublic(X509EncodedKeySpec(encoded))
        }

        private fun checkFiles(
            file: RandomAccessFile,
            entries: List<StoredZip.Entry>,
            manifest: BundleManifest,
            onProgress: (Long, Long) -> Unit,
        ) {
            val stored = entries.drop(if (isSigned(entries)) 2 else 1)
            require(
                stored.map { Triple(it.name, it.length, it.inflated) } ==
                    manifest.files.map { Triple(it.name, it.data.length, if (it.stored == null) null else it.length) },
            ) { "its entries are not the files that its manifest lists" }
            val total = stored.sumOf { it.length }
            var checked = 0L
            for ((entry, listed) in stored.zip(manifest.files)) {
                val sha256 = sha256(file, entry) {
                    checked += it
                    onProgress(checked, total)
                }
                require(sha256 == listed.data.sha256) { "the data of ${entry.name} is damaged: its SHA-256 is another" }
            }
        }

        private fun checkModel(file: RandomAccessFile, entries: List<StoredZip.Entry>, manifest: BundleManifest) {
            val byName = entries.associateBy { it.name }
            val coded = manifest.model.coded
            val needed = setOf(Manifest.NAME) + manifest.model.files + coded.keys + listOfNotNull(manifest.golden)
            for (name in needed.sorted()) require(name in byName) { "it holds no $name" }
            for ((name) in manifest.files) {
                val isGolden = manifest.golden != null && name.startsWith(GOLDEN_FOLDER)
                val isData = name.removeSuffix(".data") in manifest.model.graphs.values
                require(name in needed || isGolden || isData) { "it holds $name, which belongs to nothing" }
            }
            val deflated = entries.filter { it.inflated != null }.map { it.name }.toSet()
            require(deflated == coded.keys) { "it holds coded data $deflated, its model says ${coded.keys}" }
            for ((name, data) in coded) {
                val entry = byName.getValue(name)
                require(data.stored == entry.length && data.inflated == entry.inflated) {
                    "the parts of $name are listed with other lengths than it has"
                }
            }
            require(manifest.graphs.keys == manifest.model.graphs.keys) {
                "its manifest describes the graphs ${manifest.graphs.keys.sorted()}"
            }
            val entry = byName.getValue(Manifest.NAME)
            require(entry.length <= MAX_MANIFEST) { "${Manifest.NAME} has ${entry.length} bytes" }
            require(readWithCrc(file, entry).contentEquals(canonicalJson(manifest.modelJson))) {
                "${Manifest.NAME} and the manifest's `model` differ"
            }
        }

        private fun isSigned(entries: List<StoredZip.Entry>) = entries.size > 1 && entries[1].name == SIGNATURE_NAME

        private fun readWithCrc(file: RandomAccessFile, entry: StoredZip.Entry): ByteArray {
            val content = StoredZip.read(file, entry.data, entry.length.toInt())
            require(CRC32().apply { update(content) }.value == entry.crc32) {
                "the data of ${entry.name} is damaged: its CRC-32 is another"
            }
            return content
        }

        private fun sha256(file: RandomAccessFile, entry: StoredZip.Entry, onRead: (Int) -> Unit): String {
            val digest = MessageDigest.getInstance("SHA-256")
            val chunk = ByteArray(CHUNK)
            var left = entry.length
            file.seek(entry.data)
            while (left > 0) {
                val count = file.read(chunk, 0, minOf(left, CHUNK.toLong()).toInt())
                require(count > 0) { "it is cut off" }
                digest.update(chunk, 0, count)
                left -= count
                onRead(count)
            }
            return hexadecimal(digest)
        }
    }
}
