"""The view of chats and tasks in a window of VS Code, as its user sees it."""

from desk import Timeout, until


class View:
    def __init__(self, window):
        self.window = window
        self.frame = None

    def open(self, command="Pairwright: Open Chat"):
        self.window.run_command(command)
        self.find()

    def begin(self, command, mode):
        """Begins something new by a command that sets the mode."""
        self.open(command)
        until(lambda: self.is_there("#mode") and not self.log().strip(), "nothing is said yet")
        until(lambda: self.frame.input_value("#mode") == mode, f"{mode} is set")

    def find(self):
        """Looks for the page of the view, which is another each time it was hidden."""
        self.frame = until(self.page, "the view is there", 60)
        # The page has begun once it has heard of the server.
        until(lambda: self.is_there("#send:not(:disabled)"), "the view can send")

    def page(self):
        for frame in self.window.page.frames:
            if self.of(frame, "#draft"):
                return frame
        return None

    @staticmethod
    def of(frame, selector):
        from playwright.sync_api import Error

        try:
            return frame.query_selector(selector)
        except Error:
            return None  # The frame went away.

    def is_there(self, selector):
        element = self.of(self.frame, selector)
        return element is not None and element.is_visible()

    def texts(self, selector):
        return [element.inner_text().strip() for element in self.frame.query_selector_all(selector)]

    def log(self):
        return self.frame.inner_text("#log")

    def wait_log(self, text, seconds=60):
        try:
            until(lambda: text in self.log(), repr(text), seconds)
        except Timeout as late:
            self.window.picture("vscode-view-late")
            raise Timeout(f"{late}; in the view is:\n{self.frame.inner_text('body')}") from None

    def wait_for(self, selector, seconds=60):
        try:
            return until(lambda: self.is_there(selector), selector, seconds)
        except Timeout as late:
            self.window.picture("vscode-view-late")
            raise Timeout(f"{late}; in the view is:\n{self.frame.inner_text('body')}") from None

    def say(self, text, mode=None):
        if mode:
            self.frame.select_option("#mode", mode)
        until(lambda: self.is_there("#send:not(:disabled)"), "the view can send")
        self.frame.fill("#draft", text)
        self.frame.press("#draft", "Enter")

    def press(self, title):
        """Presses the last button of a title."""
        selector = f"button:text-is('{title}')"
        self.wait_for(selector)
        self.frame.locator(selector).last.click()

    def chips(self):
        return [text.removesuffix("×").strip() for text in self.texts("#chips li")]
