package mqtool.demo

import mqruntime.BundleError
import mqruntime.TestData
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.io.IOException
import java.io.InputStream

class BundleStoreTest {
    @TempDir
    lateinit var folder: File
    private val bundle = TestData.bundle("random-whisper")
    private fun names() = folder.list()!!.toList()

    @Test
    fun bundleIsCopiedInByteForByteWithProgress() {
        val store = BundleStore(folder)
        val steps = ArrayList<BundleStore.Progress>()
        val file = store.import("My model.mqz", bundle.inputStream(), bundle.length(), steps::add)
        assertEquals("My_model.mqz", file.name)
        assertArrayEquals(bundle.readBytes(), file.readBytes())
        assertEquals(listOf(file), store.list())
        assertEquals(bundle.length(), steps.last { it.step == BundleStore.Step.COPY }.done)
        assertEquals(BundleStore.Step.CHECK, steps.last().step)
        store.remove(file)
        assertEquals(emptyList<String>(), names())
    }

    @Test
    fun nothingIsLeftOfADamagedOrCancelledCopy() {
        val store = BundleStore(folder)
        val broken = bundle.readBytes().also { it[it.size / 3] = (it[it.size / 3] + 1).toByte() }
        val error = assertThrows(BundleError::class.java) { store.import("a.mqz", broken.inputStream()) }
        assertTrue(error.message.startsWith("a.mqz: the data of "), error.message)
        assertThrows(InterruptedException::class.java) {
            store.import("a.mqz", bundle.inputStream()) { throw InterruptedException() }
        }
        val failing = object : InputStream() {
            override fun read(): Int = throw IOException("the card was pulled out")
        }
        val pulled = assertThrows(BundleError::class.java) { store.import("a.mqz", failing) }
        assertTrue("the card was pulled out" in pulled.message)
        assertEquals(emptyList<String>(), names())
    }

    @Test
    fun damagedCopyDoesNotReplaceAGoodBundle() {
        val store = BundleStore(folder)
        val good = store.import("a.mqz", bundle.inputStream())
        assertThrows(BundleError::class.java) { store.import("a.mqz", "no bundle at all".byteInputStream()) }
        assertArrayEquals(bundle.readBytes(), good.readBytes())
    }

    @Test
    fun fullStorageIsSaidBeforeAndWhileCopying() {
        var free = 100_000L
        val store = BundleStore(folder) { free }
        val before = assertThrows(StorageFull::class.java) { store.import("a.mqz", bundle.inputStream(), bundle.length()) }
        assertEquals("a.mqz: storage is full; free 5 MB and try again", before.message)
        free = 4_000_000 + bundle.length() / 2
        val while_ = assertThrows(StorageFull::class.java) {
            val slow = bundle.inputStream().buffered(1000)
            store.import("a.mqz", object : InputStream() {
                override fun read(): Int = slow.read()

                override fun read(target: ByteArray, offset: Int, length: Int): Int =
                    slow.read(target, offset, minOf(length, 1000)).also { if (it > 0) free -= it }
            })
        }
        assertTrue("storage is full" in while_.message)
        assertEquals(emptyList<String>(), names())
    }

    @Test
    fun copyThatAKilledProcessLeftIsRemoved() {
        File(folder, "a.mqz.partial").writeText("half of it")
        File(folder, "notes.txt").writeText("not ours")
        assertEquals(emptyList<File>(), BundleStore(folder).list())
        assertEquals(listOf("notes.txt"), names())
    }

    @Test
    fun namesCannotLeaveTheFolder() {
        val names = mapOf(
            "../../etc/passwd" to "passwd.mqz", "a/b.mqz" to "b.mqz", "" to "model.mqz", ".mqz" to "model.mqz",
            "..\\x.mqz" to "x.mqz", "Модель.mqz" to "______.mqz", "..." to "model.mqz", "x".repeat(200) to "x".repeat(80) + ".mqz",
        )
        for ((name, expected) in names) assertEquals(expected, BundleStore.fileName(name), name)
    }
}
