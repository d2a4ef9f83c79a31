package mqruntime

import java.nio.ByteBuffer

/**
 * The little of ONNX's file format that opening a bundle needs, read without copying.
 *
 * An .onnx file is one protobuf message, ModelProto (messages:
 * https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, wire format:
 * https://protobuf.dev/programming-guides/encoding/). Field numbers used here:
 *
 *     ModelProto         graph 7, functions 25
 *     GraphProto         node 1, initializer 5, sparse_initializer 15
 *     FunctionProto      node 7
 *     NodeProto          attribute 5
 *     AttributeProto     t 5, g 6, tensors 10, graphs 11, sparse_tensor 22, sparse_tensors 23
 *     SparseTensorProto  values 1, indices 2
 *     TensorProto        external_data 13 (StringStringEntryProto: key 1, value 2), data_location 14
 */
internal object OnnxFile {
    private enum class Message { MODEL, GRAPH, FUNCTION, NODE, ATTRIBUTE, SPARSE_TENSOR, TENSOR }

    /** Messages that may hold a tensor, by the message they are in and their field number there. */
    private val PARTS = mapOf(
        Message.MODEL to mapOf(7 to Message.GRAPH, 25 to Message.FUNCTION),
        Message.GRAPH to mapOf(1 to Message.NODE, 5 to Message.TENSOR, 15 to Message.SPARSE_TENSOR),
        Message.FUNCTION to mapOf(7 to Message.NODE),
        Message.NODE to mapOf(5 to Message.ATTRIBUTE),
        Message.ATTRIBUTE to mapOf(
            5 to Message.TENSOR,
            6 to Message.GRAPH,
            10 to Message.TENSOR,
            11 to Message.GRAPH,
            22 to Message.SPARSE_TENSOR,
            23 to Message.SPARSE_TENSOR,
        ),
        Message.SPARSE_TENSOR to mapOf(1 to Message.TENSOR, 2 to Message.TENSOR),
        Message.TENSOR to emptyMap(),
    )
    private const val EXTERNAL_DATA = 13
    private const val DATA_LOCATION = 14
    private const val MAX_DEPTH = 100

    /**
     * Every other file that a tensor says its data is in; "" where it does not say which.
     *
     * A damaged file gives what is found before the damage: onnxruntime's message will say how it is
     * damaged.
     *
     * @param content an .onnx file.
     */
    fun externalFiles(content: ByteBuffer): Set<String> {
        val found = HashSet<String>()
        try {
            collect(content.duplicate(), Message.MODEL, 0, found)
        } catch (error: IllegalArgumentException) {
            return found
        }
        return found
    }

    private fun collect(message: ByteBuffer, kind: Message, depth: Int, found: MutableSet<String>) {
        require(depth < MAX_DEPTH) { "nested too deep" }
        val parts = PARTS.getValue(kind)
        var isExternal = false
        var location = ""
        while (message.hasRemaining()) {
            val key = varint(message)
            val field = (key ushr 3).toInt()
            when ((key and 7).toInt()) {
                0 -> {
                    val value = varint(message)
                    if (kind == Message.TENSOR && field == DATA_LOCATION && value == 1L) isExternal = true
                }
                1 -> skip(message, 8)
                2 -> {
                    val length = varint(message)
                    require(length in 0..message.remaining()) { "cut off" }
                    val part = parts[field]
                    if (kind == Message.TENSOR && field == EXTERNAL_DATA) {
                        isExternal = true
                        location(piece(message, length.toInt()))?.let { location = it }
                    }
                    if (part != null) collect(piece(message, length.toInt()), part, depth + 1, found)
                    skip(message, length.toInt())
                }
                5 -> skip(message, 4)
                else -> throw IllegalArgumentException("a field of unknown type")
            }
        }
        if (isExternal) found.add(location)
    }

    /** The value of an entry of external_data whose key is `location`. */
    private fun location(entry: ByteBuffer): String? {
        val texts = HashMap<Long, String>()
        while (entry.hasRemaining()) {
            val key = varint(entry)
            require(key and 7 == 2L) { "a field of unknown type" }
            val length = varint(entry)
            require(length in 0..entry.remaining()) { "cut off" }
            val text = ByteArray(length.toInt()).also(entry::get)
            texts[key ushr 3] = String(text, Charsets.UTF_8)
        }
        return if (texts[1L] == "location") texts[2L].orEmpty() else null
    }

    private fun piece(message: ByteBuffer, length: Int): ByteBuffer {
        val piece = message.duplicate()
        piece.limit(piece.position() + length)
        return piece
    }

    private fun skip(message: ByteBuffer, count: Int) {
        require(count <= message.remaining()) { "cut off" }
        message.position(message.position() + count)
    }

    private fun varint(message: ByteBuffer): Long {
        var value = 0L
        for (shift in 0 until 70 step 7) {
            require(message.hasRemaining()) { "cut off" }
            val byte = message.get().toLong()
            value = value or ((byte and 0x7F) shl shift)
            if (byte >= 0) return value
        }
        throw IllegalArgumentException("an integer of more than 10 bytes")
    }
}
